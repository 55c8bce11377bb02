"""The bundle's manifest.json: what a device must know of a model, and what makes it compatible with a cloud.

`load_manifest` is strict: unknown fields, wrong types and numbers out of bounds are errors. The
rules are in docs/wire.md.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from wire.bundle_files import FileEntry, Sha256, check_distinct, check_files, safe_path
from wire.chain_entries import (
    Arm,
    Chain,
    CodecEntry,
    Id,
    InputShape,
    Name,
    Preprocessing,
    Ratio,
    SplitPoint,
    Stage,
    TensorEntry,
)
from wire.errors import BadInput, IncompatibleBundle, MalformedMessage, TooLarge, UnknownSplitPoint
from wire.limits import MAX_MANIFEST_BYTES
from wire.modality import Modality
from wire.shape import ModelShape
from wire.signature import SIGNATURE_NAME
from wire.text_preprocessing import TextPreprocessing

__all__ = [
    "Arm",
    "Chain",
    "CodecEntry",
    "FileEntry",
    "InputShape",
    "Manifest",
    "Preprocessing",
    "Probe",
    "ProbeItem",
    "SplitPoint",
    "Stage",
    "TensorEntry",
    "bundle_digest",
    "check_files",
    "dump_manifest",
    "load_manifest",
    "safe_path",
]

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"


class ProbeItem(Struct, frozen=True, forbid_unknown_fields=True):
    """One input of the probe, through one chain; the prompt is empty where nothing is generated."""

    modality: Modality
    shape_id: Id
    prompt: Annotated[str, Meta(max_length=65536)]


class Probe(Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs with their features at every split point and what they led to: a safetensors file."""

    path: str
    items: Annotated[list[ProbeItem], Meta(max_length=1024)]
    tolerance: Ratio  # relative L2 error of lossless features that the cloud's tails may have


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All of manifest.json. Raises MalformedMessage or IncompatibleBundle if its parts do not agree."""

    format_version: Literal[2]
    model: Name
    architecture: Name  # for information
    shape: ModelShape
    weights_digest: Sha256
    chains: Annotated[list[Chain], Meta(min_length=1, max_length=256)]
    probe: Probe
    files: Annotated[list[FileEntry], Meta(max_length=16384)]
    made_with: dict[Id, Annotated[str, Meta(max_length=256)]]  # versions of what made the bundle

    def __post_init__(self) -> None:
        _check_unique("chain", [chain.chain_id for chain in self.chains])
        listed = {entry.path for entry in self.files}
        check_distinct([MANIFEST_NAME, SIGNATURE_NAME, *(entry.path for entry in self.files)])
        used = [path for chain in self.chains for stage in chain.stages for path in stage.files]
        recipes = [chain.preprocessing for chain in self.chains]
        used += [recipe.tokenizer for recipe in recipes if isinstance(recipe, TextPreprocessing)]
        for path in [*used, self.probe.path]:
            safe_path(path)
            if path not in listed:
                raise MalformedMessage(f"the manifest uses {path[:255]!r} but does not list it in files")
        for item in self.probe.items:
            self.chain(item.modality, item.shape_id)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that the model has an encoder for, in the order of its chains."""
        return tuple(dict.fromkeys(chain.modality for chain in self.chains))

    def of(self, modality: Modality) -> list[Chain]:
        """The chains of a modality, one per input shape; raises BadInput where there is none."""
        chains = [chain for chain in self.chains if chain.modality == modality]
        if not chains:
            raise BadInput(f"model {self.model} takes no {modality}; it takes {', '.join(self.modalities)}")
        return chains

    def chain(self, modality: Modality, shape_id: str | None = None) -> Chain:
        """The chain of a modality; `shape_id` may be left out where there is one shape. Raises BadInput."""
        chains = self.of(modality)
        found = [chain for chain in chains if shape_id in (None, chain.input_shape.shape_id)]
        if len(found) == 1:
            return found[0]
        shapes = ", ".join(chain.input_shape.shape_id for chain in chains)
        raise BadInput(f"{modality} input shape {shape_id!r} of model {self.model}: expected one of {shapes}")

    def split_point(self, modality: Modality, index: int, shape_id: str | None = None) -> SplitPoint:
        """One split point of a chain. Raises BadInput or UnknownSplitPoint."""
        points = self.chain(modality, shape_id).split_points
        if not 0 <= index < len(points):
            raise UnknownSplitPoint(
                f"model {self.model} has no {modality} split point {index}; expected 0 to {len(points) - 1}"
            )
        return points[index]


class _Version(Struct):
    format_version: int


def load_manifest(source: Path | str | bytes) -> Manifest:
    """The manifest in a file, or in the bytes of one.

    Raises BadInput (no such file), TooLarge, MalformedMessage, or IncompatibleBundle (another version).
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    if len(data) > MAX_MANIFEST_BYTES:
        raise TooLarge(f"the manifest has {len(data)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise IncompatibleBundle(
                f"the manifest has format version {version}; this program reads {FORMAT_VERSION}; "
                "update the older side"
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"the manifest is not valid: {error}") from error


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON, the same bytes for the same manifest. Raises as `load_manifest` does."""
    encoded = msgspec.json.encode(manifest, order="deterministic")
    # Structs are checked when decoded, not when made: what is written must be readable.
    checked = msgspec.json.encode(load_manifest(encoded), order="deterministic")
    return msgspec.json.format(checked, indent=2) + b"\n"


def bundle_digest(manifest_bytes: bytes) -> str:
    """SHA-256 of the manifest's bytes, which hold the SHA-256 of every other file: 64 hex digits."""
    return sha256(manifest_bytes).hexdigest()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read the manifest {path}: {error.strerror}; is it a bundle?") from error


def _check_unique(what: str, names: Sequence[str]) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise MalformedMessage(f"the manifest lists {what} {name[:255]!r} {count} times")
