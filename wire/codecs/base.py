"""What a codec is, and what holds for a list of tensors whatever the codec.

A codec turns one tensor into bytes and back (the interface is numcodecs'). It has no state: one object serves
every thread. Coded bytes, once released, decode for ever: tests/golden/wire keeps some of each.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wire.errors import MalformedMessage
from wire.tensors import Array, DType, TensorSpec, check_array


class Codec(Protocol):
    """One way to code a tensor. `str(codec)` is what `parse_codec` takes."""

    @property
    def codec_id(self) -> str:
        """On the wire: "int8+zstd"."""

    @property
    def setting(self) -> str:
        """On the wire: "token"; "" if there is nothing to set."""

    @property
    def is_lossless(self) -> bool:
        """Whether every tensor comes back bit for bit."""

    def encode_tensor(self, array: Array) -> bytes:
        """Code one tensor of any shape; uint16 is bfloat16. Raises BadInput for values it cannot hold."""

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """The tensor in `data`, of the spec's shape and dtype, maybe read-only.

        Allocates by what the spec says, never by what the data says. Raises MalformedMessage or Corrupt.
        """

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """The most bytes that `encode_tensor` can make of such a tensor."""

    def item_bytes(self, dtype: DType) -> int:
        """The period, in bytes, of what repeats in the coded tensor; zstd shuffles by it."""

    def error_bound(self, array: Array) -> Array | float:
        """The most by which each element can differ after decoding; float64, broadcasts to the array."""


def encode(codec: Codec, arrays: Sequence[Array], specs: Sequence[TensorSpec]) -> list[bytes]:
    """One payload per tensor; an upload is their concatenation. Raises BadInput."""
    payloads = []
    for array, spec in zip(arrays, specs, strict=True):
        check_array(array, spec)
        payloads.append(codec.encode_tensor(array))
    return payloads


def check_payload_sizes(codec: Codec, payload_sizes: Sequence[int], specs: Sequence[TensorSpec]) -> int:
    """The total of a peer's declared sizes, none above what the codec can make. Raises MalformedMessage."""
    if len(payload_sizes) != len(specs):
        raise MalformedMessage(f"got {len(payload_sizes)} payload sizes for {len(specs)} tensors")
    for size, spec in zip(payload_sizes, specs, strict=True):
        limit = codec.max_payload_bytes(spec)
        if not 0 <= size <= limit:
            raise MalformedMessage(
                f"tensor {spec.name!r} declares a payload of {size} bytes; "
                f"{codec} makes at most {limit} of its shape"
            )
    return sum(payload_sizes)


def decode(
    codec: Codec, payload: memoryview, payload_sizes: Sequence[int], specs: Sequence[TensorSpec]
) -> list[Array]:
    """The tensors of one upload, in the order of `specs`. The sizes may be a peer's.

    Raises MalformedMessage or Corrupt.
    """
    total = check_payload_sizes(codec, payload_sizes, specs)
    if payload.nbytes != total:
        raise MalformedMessage(
            f"the payload has {payload.nbytes} bytes; its tensor headers add up to {total}"
        )
    arrays, start = [], 0
    for size, spec in zip(payload_sizes, specs, strict=True):
        arrays.append(codec.decode_tensor(payload[start : start + size], spec))
        start += size
    return arrays


def check_size(codec: Codec, data: memoryview, spec: TensorSpec, expected: int) -> None:
    """Raises MalformedMessage unless `data` has the one size that this codec gives this tensor."""
    if data.nbytes != expected:
        raise MalformedMessage(
            f"tensor {spec.name!r} has {data.nbytes} bytes; "
            f"{codec} takes {expected} for {spec.dtype.value} {spec.shape}"
        )


def codec_name(codec_id: str, setting: str) -> str:
    """The two fields of the wire as users write them: ("int8+zstd", "token") is "int8:token+zstd"."""
    base, plus, wrapper = codec_id.partition("+")
    return f"{base}:{setting}{plus}{wrapper}" if setting else codec_id


def split_codec_name(name: str) -> tuple[str, str]:
    """The codec id and setting in what users write: "int8:token+zstd" is ("int8+zstd", "token")."""
    base, plus, wrapper = name.partition("+")
    base, _, setting = base.partition(":")
    return f"{base}{plus}{wrapper}", setting


def as_float32(array: Array) -> Array:
    """A float tensor as float32, which holds every float16 and bfloat16; float32 itself is not copied."""
    if DType.of(array) is DType.BFLOAT16:
        bits = array.astype(np.uint32)
        bits <<= np.uint32(16)  # in place: no temporary, and a scalar stays an array
        return bits.view(np.float32)
    return array.astype(np.float32, copy=False)
