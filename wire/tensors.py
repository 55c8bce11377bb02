"""What crosses the network: dtypes, shapes, and the check of a peer's tensor headers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from wire.errors import BadInput, MalformedMessage, TooLarge
from wire.limits import MAX_NAME_CHARS, MAX_RANK, MAX_TENSOR_BYTES, MAX_TENSORS
from wire.v1 import inference_pb2 as pb

Array = npt.NDArray[Any]


class DType(Enum):
    """The dtypes of the wire. numpy has no bfloat16: uint16, no dtype of the wire itself, holds its bits."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian numpy dtype that holds it."""
        return _NUMPY[self]

    @property
    def item_bytes(self) -> int:
        """Bytes per element."""
        return _NUMPY[self].itemsize

    @property
    def is_float(self) -> bool:
        """Whether lossy codecs apply to it."""
        return self in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)

    def to_wire(self) -> pb.DType.ValueType:
        """The proto's number of this dtype."""
        return _TO_WIRE[self]

    @classmethod
    def from_wire(cls, number: int) -> "DType":
        """The dtype of a proto number; raises MalformedMessage if there is none."""
        if number not in _FROM_WIRE:
            raise MalformedMessage(f"dtype number {number} is unknown; expected one of {sorted(_FROM_WIRE)}")
        return _FROM_WIRE[number]

    @classmethod
    def parse(cls, name: str) -> "DType":
        """The dtype called `name`; raises MalformedMessage if there is none."""
        try:
            return cls(name)
        except ValueError:
            names = ", ".join(dtype.value for dtype in cls)
            raise MalformedMessage(f"dtype {name[:64]!r} is unknown; expected one of {names}") from None

    @classmethod
    def of(cls, array: Array) -> "DType":
        """The dtype of an array, uint16 being bfloat16; raises MalformedMessage for what cannot cross."""
        found = _FROM_NUMPY.get(array.dtype.newbyteorder("="))
        if found is None:
            names = ", ".join(dtype.value for dtype in cls)
            raise MalformedMessage(
                f"an array of {array.dtype} cannot cross the wire; expected one of {names}"
            )
        return found


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.BFLOAT16: np.dtype("<u2"),
    DType.INT64: np.dtype("<i8"),
    DType.INT32: np.dtype("<i4"),
    DType.INT16: np.dtype("<i2"),
    DType.INT8: np.dtype("i1"),
    DType.UINT8: np.dtype("u1"),
    DType.BOOL: np.dtype("?"),
}
_FROM_NUMPY = {numpy.newbyteorder("="): dtype for dtype, numpy in _NUMPY.items()}
_TO_WIRE: dict[DType, pb.DType.ValueType] = {
    dtype: pb.DType.Value(f"DTYPE_{dtype.name}")  # the names agree, so the table cannot drift
    for dtype in DType
}
_FROM_WIRE: dict[int, DType] = {number: dtype for dtype, number in _TO_WIRE.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one tensor. A spec that exists is within the wire's limits.

    Raises MalformedMessage (name, rank, negative dim) or TooLarge (bytes) when made.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_NAME_CHARS:
            raise MalformedMessage(
                f"a tensor name has {len(self.name)} characters; expected 1 to {MAX_NAME_CHARS}"
            )
        if len(self.shape) > MAX_RANK:
            raise MalformedMessage(
                f"tensor {self.name!r} has {len(self.shape)} dims; at most {MAX_RANK} are allowed"
            )
        if any(dim < 0 for dim in self.shape):
            raise MalformedMessage(f"tensor {self.name!r} has a negative dim in {self.shape}")
        # Dims of zero are skipped: (0, 2**63) has no elements, and numpy still refuses to shape it.
        bound = prod(dim for dim in self.shape if dim) * self.dtype.item_bytes
        if bound > MAX_TENSOR_BYTES:
            raise TooLarge(f"tensor {self.name!r} of shape {self.shape} takes over {MAX_TENSOR_BYTES} bytes")

    @property
    def num_elements(self) -> int:
        """Elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes, not coded."""
        return self.num_elements * self.dtype.item_bytes

    def stacked(self, count: int) -> "TensorSpec":
        """Of so many of these behind one another, along a first axis of their own. Raises as when made."""
        return TensorSpec(self.name, self.dtype, (count, *self.shape))

    def to_wire(self) -> pb.TensorSpec:
        """The message that describes this tensor."""
        return pb.TensorSpec(name=self.name, dtype=self.dtype.to_wire(), dims=self.shape)

    def is_told_by(self, message: "pb.TensorSpec | pb.TensorHeader") -> bool:
        """Whether a message says just this; nothing is made of what it says."""
        return (
            message.name == self.name
            and message.dtype == _TO_WIRE[self.dtype]
            and tuple(message.dims) == self.shape
        )

    @classmethod
    def from_wire(cls, message: "pb.TensorSpec | pb.TensorHeader") -> "TensorSpec":
        """The spec in a message; raises MalformedMessage or TooLarge for one out of bounds."""
        if len(message.dims) > MAX_RANK:
            raise MalformedMessage(f"a tensor has {len(message.dims)} dims; at most {MAX_RANK} are allowed")
        return cls(message.name, DType.from_wire(message.dtype), tuple(message.dims))

    @classmethod
    def of(cls, name: str, array: Array) -> "TensorSpec":
        """The spec of an array, uint16 being bfloat16."""
        return cls(name, DType.of(array), array.shape)


@dataclass(frozen=True, slots=True)
class FeatureTensor:
    """One tensor of the features; the array has the spec's shape and `spec.dtype.numpy`.

    Raises BadInput if it has not.
    """

    spec: TensorSpec
    array: Array

    def __post_init__(self) -> None:
        check_array(self.array, self.spec)


def check_array(array: Array, spec: TensorSpec) -> None:
    """Raises BadInput unless the array has the spec's shape and dtype."""
    if array.shape != spec.shape or array.dtype != spec.dtype.numpy:
        raise BadInput(
            f"tensor {spec.name!r} is {array.dtype} {array.shape}; expected {spec.dtype.numpy} {spec.shape}"
        )


def check_headers(headers: Sequence[pb.TensorHeader], expected: Sequence[TensorSpec]) -> list[int]:
    """The payload bytes of each tensor, if the headers say what the split point's boundary says.

    Allocates nothing by what the headers declare. Whether `payload_bytes` is plausible is the codec's to say
    (`codecs.check_payload_sizes`). Raises MalformedMessage or TooLarge.
    """
    if len(headers) > MAX_TENSORS or len(headers) != len(expected):
        raise MalformedMessage(
            f"got {len(headers)} tensor headers; this split point has {len(expected)} tensors"
        )
    for header, spec in zip(headers, expected, strict=True):
        if spec.is_told_by(header):
            continue
        got = TensorSpec.from_wire(header)
        if got != spec:
            raise MalformedMessage(
                f"tensor header says {got.name!r} {got.dtype.value} {got.shape}; this split point has "
                f"{spec.name!r} {spec.dtype.value} {spec.shape}; use the bundle whose digest the server lists"
            )
    return [header.payload_bytes for header in headers]


def make_headers(specs: Sequence[TensorSpec], payload_sizes: Sequence[int]) -> list[pb.TensorHeader]:
    """The headers for tensors and the bytes that each takes when coded."""
    return [
        pb.TensorHeader(name=spec.name, dtype=spec.dtype.to_wire(), dims=spec.shape, payload_bytes=size)
        for spec, size in zip(specs, payload_sizes, strict=True)
    ]
