"""Loading a checkpoint: a local directory or a hub id becomes a model, its processor and a digest of its weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers import logging as transformers_logging

from splitmodel.processor_parts import load_processor
from splitmodel.shape import LOADERS
from wire.errors import BadInput, UnknownModel

_HASH_BLOCK_BYTES = 1 << 20
_MAX_REASON_CHARS = 300
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What a checkpoint can make transformers raise: files missing or cut short, settings or shapes that do not fit.
LOAD_ERRORS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError, StrictDataclassError)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model in evaluation mode. `weights_digest` is the SHA-256 over its safetensors files."""

    name: str
    path: Path
    model: Any
    processor: Any
    weights_digest: str

    @property
    def short_name(self) -> str:
        """The directory's name, or the hub id (whose directory is named after a revision)."""
        return self.path.resolve().name if Path(os.path.expanduser(self.name)).is_dir() else self.name


def load(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Checkpoint:
    """Loads a checkpoint in Hugging Face format; never runs code or unpickles weights that it brings.

    Raises UnknownModel where there is none, BadInput where its kind is not served.
    """
    transformers_logging.disable_progress_bar()
    path = resolve(name)
    config = load_config(name, path)
    model = _model(name, path, auto_class(config, name), dtype)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "At least one mel filter")  # what its makers chose
            processor = load_processor(path, config)
    except LOAD_ERRORS as error:
        raise BadInput(f"the processor of {name} does not load: {one_line(error)}") from error
    return Checkpoint(name, path, model.eval().to(device), processor, weights_digest(path))


def auto_class(config: Any, name: str) -> Any:
    """What of transformers loads a model with this config; raises BadInput where nothing does."""
    for mapping, auto in LOADERS:
        if type(config) in mapping:
            return auto
    raise BadInput(
        f"{name} is a {config.model_type} model, and transformers has no class for it that is served; see "
        "`cleave doctor`"
    )


def find_device(name: str) -> str:
    """A device as torch names it; "auto" is a GPU where there is one. Raises BadInput where there is no such device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"there is no device {name!r} here ({one_line(error)}); use cpu, cuda, cuda:N or auto"
        ) from error
    return name


def find_dtype(name: str) -> torch.dtype:
    """The dtype to compute in; raises BadInput for one that is not served."""
    if name not in _DTYPES:
        raise BadInput(f"{name!r} is no dtype to compute in; use {', '.join(_DTYPES)}")
    return _DTYPES[name]


def weights_digest(path: Path) -> str:
    """SHA-256 (hex) over the names and contents of the directory's safetensors files, whatever dtype they load as."""
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        digest.update(file.name.encode() + b"\0" + file.stat().st_size.to_bytes(8, "little"))
        with file.open("rb") as stream:
            while block := stream.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def resolve(name: str, files: Sequence[str] = _FILES) -> Path:
    """The directory of a checkpoint; of a hub id, those of its files are fetched. Raises UnknownModel."""
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UnknownModel(
                f"{name} is a directory without config.json; give a Hugging Face checkpoint directory"
            )
        return path
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UnknownModel(f"{name} is not a directory; give a Hugging Face checkpoint directory or a hub id")
    return _from_hub(name, files)


def _from_hub(name: str, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # the hub's client lets its HTTP library's own errors through
        raise UnknownModel(
            f"{name} is no local directory, and the hub gave none of that name ({one_line(error)}); "
            "check the name, or give a Hugging Face checkpoint directory"
        ) from error


def load_config(name: str, path: Path) -> Any:
    """The checkpoint's config.json as transformers knows it; raises BadInput."""
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise BadInput(f"the config.json of {name} does not load: {one_line(error)}") from error


def _model(name: str, path: Path, auto: Any, dtype: torch.dtype) -> Any:
    """Raises BadInput for weights that are incomplete, too: transformers would make up what is missing."""
    try:
        with _quiet():
            model, info = auto.from_pretrained(
                path, dtype=dtype, use_safetensors=True, trust_remote_code=False, ignore_mismatched_sizes=True,
                output_loading_info=True,
            )  # fmt: skip
    except LOAD_ERRORS as error:
        raise BadInput(f"{name} does not load: {one_line(error)}") from error
    random = sorted([*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    if random:
        raise BadInput(
            f"{len(random)} weights of {name}, such as {random[0]}, are missing or of another shape than its "
            "config.json says; use a complete checkpoint"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the report of weights that are missing or too many: the former are an error here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def one_line(error: Exception) -> str:
    """What an exception of another library says, in one line, cut where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_REASON_CHARS else f"{text[:_MAX_REASON_CHARS]}..."
