"""One byte per number, symmetric, with one float32 scale per channel or per token: wire/codecs/symmetric.py."""

from dataclasses import dataclass

import numpy as np

from wire.codecs.symmetric import Symmetric
from wire.tensors import Array, TensorSpec

_LEVELS = np.float32(127)
# 127 times a larger scale is no finite float32.
_MAX_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Int8(Symmetric):
    """A quarter of float32."""

    codec_id = "int8"
    levels = 127
    scale_bytes = 4

    def scales_of(self, absmax: Array) -> Array:
        """The quotient, lowered where 127 times it would overflow."""
        return np.minimum(absmax / _LEVELS, _MAX_SCALE)

    def scale_slack(self, absmax: Array) -> Array:
        """The scale is off by at most 2^-23 of itself (2^-150 where subnormal), 127 times that where clipped."""
        return absmax * 2.0**-22 + 2.0**-142

    def pack_scales(self, scales: Array) -> bytes:
        """float32."""
        return scales.astype("<f4", copy=False).tobytes()

    def unpack_scales(self, data: memoryview) -> Array:
        """float32."""
        return np.frombuffer(data, "<f4")

    def pack_steps(self, steps: Array) -> bytes:
        """int8."""
        return steps.astype(np.int8).tobytes()

    def unpack_steps(self, data: memoryview, spec: TensorSpec) -> Array:
        """int8."""
        return np.frombuffer(data, np.int8)

    def steps_bytes(self, num_elements: int) -> int:
        """1 each."""
        return num_elements
