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

from wire.bundle_files import FileEntry, Sha256, check_files, safe_path
from wire.errors import BadInput, IncompatibleBundle, MalformedMessage, TooLarge, UnknownSplitPoint
from wire.limits import MAX_MANIFEST_BYTES, MAX_RANK, MAX_TENSORS
from wire.modality import Modality
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Pad,
    Rescale,
    Resize,
    ResizeShortestEdge,
    Step,
)
from wire.tensors import DType, TensorSpec

__all__ = [
    "Arm",
    "CenterCrop",
    "Chain",
    "CodecEntry",
    "FileEntry",
    "ImagePreprocessing",
    "InputShape",
    "Manifest",
    "Normalize",
    "Pad",
    "Probe",
    "Rescale",
    "Resize",
    "ResizeShortestEdge",
    "SplitPoint",
    "Stage",
    "Step",
    "TensorEntry",
    "bundle_digest",
    "check_files",
    "dump_manifest",
    "load_manifest",
    "safe_path",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Index = Annotated[int, Meta(ge=0, le=4096)]
_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Pixels = Annotated[int, Meta(ge=1, le=65535)]
_Ratio = Annotated[float, Meta(ge=0)]
_CodecName = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9_]+(:[a-z0-9_.-]+)?(\+[a-z0-9]+)?\Z")]


class TensorEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One boundary tensor at batch 1."""

    name: _Name
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    shape: Annotated[list[_Count], Meta(max_length=MAX_RANK)]

    def spec(self) -> TensorSpec:
        """The same, checked. Raises MalformedMessage or TooLarge."""
        return TensorSpec(self.name, DType.parse(self.dtype), tuple(self.shape))

    @classmethod
    def of(cls, spec: TensorSpec) -> "TensorEntry":
        """The entry of a spec."""
        return cls(spec.name, spec.dtype.value, list(spec.shape))


class SplitPoint(Struct, frozen=True, forbid_unknown_fields=True):
    """The boundary before stage `index`, and the cost of the stage that leads to it."""

    index: _Index
    label: _Name
    tensors: Annotated[list[TensorEntry], Meta(min_length=1, max_length=MAX_TENSORS)]
    raw_bytes: _Count  # of the tensors, not coded
    stage_macs: _Count = 0  # multiply-adds of the stage that ends here; 0 at split point 0, or unknown

    def specs(self) -> list[TensorSpec]:
        """The tensors that cross here."""
        return [tensor.spec() for tensor in self.tensors]


class Stage(Struct, frozen=True, forbid_unknown_fields=True):
    """The file that maps the tensors at split point `index` to those at `index + 1`."""

    index: _Index
    path: str


class CodecEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A codec measured at a split point on the calibration inputs."""

    split_point: _Index
    codec: _CodecName  # "int8:token+zstd"
    payload_bytes: _Count  # mean over the calibration inputs
    faithfulness: _Ratio  # relative L2 error at the tail's output; 0 is lossless
    tolerance: _Ratio  # the most that the cloud may measure for it on the probe


class InputShape(Struct, frozen=True, forbid_unknown_fields=True):
    """One input shape. Without width and height, every picture is brought to it."""

    shape_id: _Id
    width: _Pixels | None  # of the picture that has this shape
    height: _Pixels | None
    tensor: TensorEntry  # what preprocessing makes


class Chain(Struct, frozen=True, forbid_unknown_fields=True):
    """One encoder at one input shape. Raises MalformedMessage if its parts do not fit together."""

    modality: Modality
    input_shape: InputShape
    split_points: Annotated[list[SplitPoint], Meta(min_length=1, max_length=4097)]
    stages: Annotated[list[Stage], Meta(max_length=4096)]
    codecs: Annotated[list[CodecEntry], Meta(max_length=65536)]

    def __post_init__(self) -> None:
        here = f"chain {self.modality}/{self.input_shape.shape_id}"
        if len(self.split_points) != len(self.stages) + 1:
            raise MalformedMessage(
                f"{here} has {len(self.split_points)} split points and {len(self.stages)} stages; "
                "expected one split point more than stages"
            )
        _check_contiguous(f"{here}: split points", [point.index for point in self.split_points])
        _check_contiguous(f"{here}: stages", [stage.index for stage in self.stages])
        for point in self.split_points:
            num_bytes = sum(spec.num_bytes for spec in point.specs())
            if point.raw_bytes != num_bytes:
                raise MalformedMessage(
                    f"{here}: split point {point.index} says raw_bytes {point.raw_bytes}; "
                    f"its tensors have {num_bytes}"
                )
        for entry in self.codecs:
            if entry.split_point >= len(self.split_points):
                raise MalformedMessage(
                    f"{here}: codec {entry.codec} is listed at split point {entry.split_point}; "
                    f"the last one is {len(self.stages)}"
                )

    def codec(self, split_point: int, codec: str) -> CodecEntry | None:
        """What was measured for a codec at a split point, or None."""
        for entry in self.codecs:
            if (entry.split_point, entry.codec) == (split_point, codec):
                return entry
        return None


class Arm(Struct, frozen=True, forbid_unknown_fields=True):
    """A split point and a codec."""

    modality: Modality
    shape_id: _Id
    split_point: _Index
    codec: _CodecName


class Probe(Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs with their features at every split point and the first logits: a safetensors file."""

    path: str
    prompts: Annotated[list[Annotated[str, Meta(max_length=65536)]], Meta(max_length=64)]
    tolerance: _Ratio  # relative L2 error of lossless features that the cloud's tails may have


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All of manifest.json. Raises MalformedMessage or IncompatibleBundle if its parts do not agree."""

    format_version: Literal[1]
    model: _Name
    architecture: _Name  # for information
    weights_digest: Sha256
    preprocessing_digest: Sha256
    preprocessing: ImagePreprocessing
    chains: Annotated[list[Chain], Meta(min_length=1, max_length=256)]
    default_arm: Arm
    probe: Probe
    files: Annotated[list[FileEntry], Meta(max_length=16384)]
    made_with: dict[_Id, Annotated[str, Meta(max_length=256)]]  # versions of what made the bundle

    def __post_init__(self) -> None:
        if self.preprocessing.digest() != self.preprocessing_digest:
            raise IncompatibleBundle(
                f"preprocessing_digest is {self.preprocessing_digest}; the preprocessing listed has "
                f"{self.preprocessing.digest()}; write the bundle again"
            )
        _check_unique("chain", [f"{c.modality}/{c.input_shape.shape_id}" for c in self.chains])
        _check_unique("file", [entry.path for entry in self.files])
        listed = {entry.path for entry in self.files}
        used = [stage.path for chain in self.chains for stage in chain.stages]
        for path in [*used, self.probe.path]:
            safe_path(path)
            if path not in listed:
                raise MalformedMessage(f"the manifest uses {path[:255]!r} but does not list it in files")
        arm = self.default_arm
        self.split_point(arm.modality, arm.split_point, arm.shape_id)

    def chain(self, modality: Modality, shape_id: str | None = None) -> Chain:
        """The chain of a modality; `shape_id` may be left out where there is one shape. Raises BadInput."""
        chains = [chain for chain in self.chains if chain.modality == modality]
        found = [chain for chain in chains if shape_id in (None, chain.input_shape.shape_id)]
        if len(found) == 1:
            return found[0]
        if not chains:
            have = ", ".join(sorted({chain.modality for chain in self.chains}))
            raise BadInput(f"model {self.model} takes no {modality}; it takes {have}")
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


def _check_contiguous(what: str, indices: Sequence[int]) -> None:
    if list(indices) != list(range(len(indices))):
        raise MalformedMessage(f"{what} are numbered {list(indices)[:16]}; expected 0, 1, 2 and so on")


def _check_unique(what: str, names: Sequence[str]) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise MalformedMessage(f"the manifest lists {what} {name[:255]!r} {count} times")
