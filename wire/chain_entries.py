"""One encoder of a bundle, as its manifest lists it: input shape, preprocessing, split points, stages, codecs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Meta, Struct

from wire.bundle_files import Sha256
from wire.errors import IncompatibleBundle, MalformedMessage
from wire.limits import MAX_RANK, MAX_TENSORS
from wire.modality import Modality
from wire.preprocessing import ImagePreprocessing
from wire.sound_preprocessing import SoundPreprocessing
from wire.tensors import DType, TensorSpec
from wire.text_preprocessing import TextPreprocessing

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Ratio = Annotated[float, Meta(ge=0)]
_Index = Annotated[int, Meta(ge=0, le=4096)]
_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Pixels = Annotated[int, Meta(ge=1, le=65535)]
_CodecName = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z0-9_]+(:[a-z0-9_.-]+)?(\+[a-z0-9]+)?\Z")]

Preprocessing = ImagePreprocessing | SoundPreprocessing | TextPreprocessing


class TensorEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One boundary tensor at batch 1."""

    name: Name
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    shape: Annotated[list[_Count], Meta(max_length=MAX_RANK)]

    def spec(self) -> TensorSpec:
        """The same, checked. Raises MalformedMessage or TooLarge."""
        return _spec(self.name, self.dtype, tuple(self.shape))

    @classmethod
    def of(cls, spec: TensorSpec) -> "TensorEntry":
        """The entry of a spec."""
        return cls(spec.name, spec.dtype.value, list(spec.shape))


@lru_cache(maxsize=4096)
def _spec(name: str, dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    """Asked for at every request; manifests, which the operator or a pinned digest chose, hold few."""
    return TensorSpec(name, DType.parse(dtype), shape)


class SplitPoint(Struct, frozen=True, forbid_unknown_fields=True):
    """The boundary before stage `index`, and the cost of the stage that leads to it."""

    index: _Index
    label: Name
    tensors: Annotated[list[TensorEntry], Meta(min_length=1, max_length=MAX_TENSORS)]
    raw_bytes: _Count  # of the tensors, not coded
    stage_macs: _Count = 0  # multiply-adds of the stage that ends here; 0 at split point 0, or unknown

    def specs(self) -> list[TensorSpec]:
        """The tensors that cross here."""
        return [tensor.spec() for tensor in self.tensors]


class Stage(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file that maps the tensors at split point `index` to those at `index + 1`."""

    index: _Index
    path: str
    weights: str = ""  # a file beside it that holds what other shapes' stages read, too; "" for none

    @property
    def files(self) -> list[str]:
        """All that a device needs to run it."""
        return [self.path, self.weights] if self.weights else [self.path]


class CodecEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A codec measured at a split point on the calibration inputs."""

    split_point: _Index
    codec: _CodecName  # "int8:token+zstd"
    payload_bytes: _Count  # mean over the calibration inputs
    faithfulness: Ratio  # relative L2 error at the tail's output; 0 is lossless
    tolerance: Ratio  # the most that the cloud may measure for it on the probe


class InputShape(Struct, frozen=True, forbid_unknown_fields=True):
    """One input shape. Without width, height and samples, every input is brought to it."""

    shape_id: Id
    tensors: Annotated[list[TensorEntry], Meta(min_length=1, max_length=MAX_TENSORS)]  # at split point 0
    is_tiled: bool = False  # an input is one or more of these, each run through the stages by itself
    width: _Pixels | None = None  # of the upright pictures that have this shape
    height: _Pixels | None = None
    samples: _Count | None = None  # of the sounds that have this shape; shorter ones are padded to it


class Arm(Struct, frozen=True, forbid_unknown_fields=True):
    """A split point and a codec."""

    split_point: _Index
    codec: _CodecName


class Chain(Struct, frozen=True, forbid_unknown_fields=True):
    """One encoder at one input shape. Raises MalformedMessage if its parts do not fit together."""

    modality: Modality
    input_shape: InputShape
    preprocessing: Preprocessing
    preprocessing_digest: Sha256
    split_points: Annotated[list[SplitPoint], Meta(min_length=1, max_length=4097)]
    stages: Annotated[list[Stage], Meta(max_length=4096)]
    codecs: Annotated[list[CodecEntry], Meta(max_length=65536)]
    default_arm: Arm

    def __post_init__(self) -> None:
        here = self.chain_id
        if self.preprocessing.digest() != self.preprocessing_digest:
            raise IncompatibleBundle(
                f"{here}: preprocessing_digest is {self.preprocessing_digest}; the preprocessing listed has "
                f"{self.preprocessing.digest()}; write the bundle again"
            )
        if self.input_shape.tensors != self.split_points[0].tensors:
            raise MalformedMessage(f"{here}: its input shape is not what crosses split point 0")
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
        arms = [(entry.split_point, entry.codec) for entry in self.codecs]
        for split_point, codec in (*arms, (self.default_arm.split_point, self.default_arm.codec)):
            if split_point >= len(self.split_points):
                raise MalformedMessage(
                    f"{here}: codec {codec} is listed at split point {split_point}; "
                    f"the last one is {len(self.stages)}"
                )

    @property
    def chain_id(self) -> str:
        """What tells it from the other chains of its bundle."""
        return f"{self.modality}/{self.input_shape.shape_id}"

    def boundary(self, split_point: int, num_tiles: int = 0) -> list[TensorSpec]:
        """The tensors that cross a split point; of a tiled chain, those of so many tiles behind one another."""
        specs = self.split_points[split_point].specs()
        return [spec.stacked(num_tiles) for spec in specs] if self.input_shape.is_tiled else specs

    def codec(self, split_point: int, codec: str) -> CodecEntry | None:
        """What was measured for a codec at a split point, or None."""
        for entry in self.codecs:
            if (entry.split_point, entry.codec) == (split_point, codec):
                return entry
        return None


def _check_contiguous(what: str, indices: Sequence[int]) -> None:
    if list(indices) != list(range(len(indices))):
        raise MalformedMessage(f"{what} are numbered {list(indices)[:16]}; expected 0, 1, 2 and so on")
