"""Another codec's bytes, shuffled and compressed by Zstandard (RFC 8878).

The shuffle (Blosc's) puts the first bytes of all numbers first, then the second ones: exponents lie together
and compress. A coded tensor is one frame that states its content size; an empty tensor is no bytes at all.
"""

from dataclasses import dataclass

import numpy as np
import zstandard

from wire.codecs.base import Codec, codec_name
from wire.errors import Corrupt, MalformedMessage
from wire.tensors import Array, DType, TensorSpec

# The format does not depend on it. 3 is Zstandard's default; above it, float features gain little.
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Zstd:
    """Compresses what `inner` makes. Adds no error."""

    inner: Codec

    @property
    def codec_id(self) -> str:
        """The inner codec's, and "+zstd"."""
        return f"{self.inner.codec_id}+zstd"

    @property
    def setting(self) -> str:
        """The inner codec's."""
        return self.inner.setting

    @property
    def is_lossless(self) -> bool:
        """As the inner codec."""
        return self.inner.is_lossless

    def __str__(self) -> str:
        return codec_name(self.codec_id, self.setting)

    def encode_tensor(self, array: Array) -> bytes:
        """One frame. Raises what the inner codec raises."""
        payload = self.inner.encode_tensor(array)
        if not payload:
            return b""
        shuffled = _shuffle(payload, self.inner.item_bytes(DType.of(array)))
        # A compressor is not thread-safe, and cheap to make.
        return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(shuffled)

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """What the inner codec makes of it. Allocates the inner payload's bytes, which follow from the spec.

        Raises MalformedMessage (a frame of another size, without size, or with a dictionary) or Corrupt.
        """
        expected = self.inner.max_payload_bytes(spec)
        if expected == 0:
            if data.nbytes:
                raise MalformedMessage(
                    f"tensor {spec.name!r} is empty and has {data.nbytes} bytes; expected none"
                )
            return self.inner.decode_tensor(data, spec)
        # Nested, so that the shuffled bytes are freed before the inner codec allocates.
        payload = _unshuffle(_decompress(data, expected, spec.name), self.inner.item_bytes(spec.dtype))
        return self.inner.decode_tensor(payload, spec)

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """Zstandard's own bound (ZSTD_compressBound) for the inner payload."""
        size = self.inner.max_payload_bytes(spec)
        if size == 0:
            return 0
        margin = ((128 << 10) - size) >> 11 if size < 128 << 10 else 0
        return size + (size >> 8) + margin

    def item_bytes(self, dtype: DType) -> int:
        """1: nothing repeats in compressed bytes."""
        return 1

    def error_bound(self, array: Array) -> Array | float:
        """As the inner codec."""
        return self.inner.error_bound(array)


def _decompress(data: memoryview, expected: int, name: str) -> bytes:
    """The content of a frame of exactly `expected` bytes; nothing is allocated for another."""
    try:
        frame = zstandard.get_frame_parameters(data)
        if frame.content_size != expected or frame.dict_id != 0:
            size = "no" if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN else frame.content_size
            raise MalformedMessage(
                f"the zstd frame of tensor {name!r} declares {size} bytes; "
                f"expected {expected}, and no dictionary"
            )
        content = zstandard.ZstdDecompressor().decompress(
            data, max_output_size=expected, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Corrupt(f"the zstd frame of tensor {name!r} cannot be decompressed: {error}") from error
    if len(content) != expected:
        raise Corrupt(f"the zstd frame of tensor {name!r} holds {len(content)} bytes; expected {expected}")
    return content


def _shuffle(payload: bytes, item_bytes: int) -> memoryview:
    if item_bytes == 1:
        return memoryview(payload)
    items = np.frombuffer(payload, np.uint8).reshape(-1, item_bytes)
    return np.ascontiguousarray(items.T).data.cast("B")


def _unshuffle(shuffled: bytes, item_bytes: int) -> memoryview:
    if item_bytes == 1:
        return memoryview(shuffled)
    planes = np.frombuffer(shuffled, np.uint8).reshape(item_bytes, -1)
    return np.ascontiguousarray(planes.T).data.cast("B")
