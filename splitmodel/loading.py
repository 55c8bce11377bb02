"""Loading a checkpoint: a local directory or a hub id becomes a model, its processor and a digest of its weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
)
from transformers import logging as transformers_logging

from splitmodel.processor_parts import load_processor
from wire.errors import BadInput, UnknownModel

_HASH_BLOCK_BYTES = 1 << 20
_MAX_REASON_CHARS = 300
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What a checkpoint can make transformers raise: files missing or cut short, settings or shapes that do not fit.
_LOAD_ERRORS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError, StrictDataclassError)


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
    path = _resolve(name)
    config = _config(name, path)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise BadInput(
            f"{name} is a {config.model_type} model, and only generators with an image encoder are served; "
            "use a model that transformers loads with AutoModelForImageTextToText"
        )
    model = _model(name, path, dtype)
    try:
        processor = load_processor(path, config)
    except _LOAD_ERRORS as error:
        raise BadInput(f"the processor of {name} does not load: {_one_line(error)}") from error
    return Checkpoint(name, path, model.eval().to(device), processor, weights_digest(path))


def find_device(name: str) -> str:
    """A device as torch names it; "auto" is a GPU where there is one. Raises BadInput where there is no such device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"there is no device {name!r} here ({_one_line(error)}); use cpu, cuda, cuda:N or auto"
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


def _resolve(name: str) -> Path:
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UnknownModel(
                f"{name} is a directory without config.json; give a Hugging Face checkpoint directory"
            )
        return path
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UnknownModel(f"{name} is not a directory; give a Hugging Face checkpoint directory or a hub id")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub's client lets its HTTP library's own errors through
        raise UnknownModel(
            f"{name} is no local directory, and the hub gave none of that name ({_one_line(error)}); "
            "check the name, or give a Hugging Face checkpoint directory"
        ) from error


def _config(name: str, path: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except _LOAD_ERRORS as error:
        raise BadInput(f"the config.json of {name} does not load: {_one_line(error)}") from error


def _model(name: str, path: Path, dtype: torch.dtype) -> Any:
    """Raises BadInput for weights that are incomplete, too: transformers would make up what is missing."""
    try:
        with _quiet():
            model, info = AutoModelForImageTextToText.from_pretrained(
                path, dtype=dtype, use_safetensors=True, trust_remote_code=False, ignore_mismatched_sizes=True,
                output_loading_info=True,
            )  # fmt: skip
    except _LOAD_ERRORS as error:
        raise BadInput(f"{name} does not load: {_one_line(error)}") from error
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


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_REASON_CHARS else f"{text[:_MAX_REASON_CHARS]}..."
