"""Half a byte per number, symmetric, one bfloat16 scale per 32 numbers, token or channel: wire/codecs/symmetric.py.

q is in -7..7, in two's complement; of each byte the lower half holds the first of two numbers, as in ONNX's INT4. The
spare half after an odd count is 0. A scale is cut to a bfloat16: a float32 scale per 32 numbers would make the payload
a ninth larger. Cutting takes less than 2^-7 of it, so that the largest number is 7.06 scales and still within half a
scale of the last level, and what decodes is never larger than what was coded.
"""

from dataclasses import dataclass

import numpy as np

from wire.codecs.base import as_float32
from wire.codecs.symmetric import Symmetric
from wire.errors import MalformedMessage
from wire.tensors import Array, DType, TensorSpec

_LEVELS = np.float32(7)


@dataclass(frozen=True, slots=True)
class Int4(Symmetric):
    """A seventh of float32 per group of 32 (4.5 bits a number), an eighth per token or channel of many numbers."""

    codec_id = "int4"
    levels = 7
    scale_bytes = 2

    def scales_of(self, absmax: Array) -> Array:
        """The next bfloat16 that is not above the quotient."""
        bits = np.asarray(absmax / _LEVELS, np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32)

    def scale_slack(self, absmax: Array) -> Array:
        """The quotients' rounding, products being exact; and what cutting a subnormal scale takes, 7 times."""
        return absmax * 2.0**-22 + 2.0**-130

    def pack_scales(self, scales: Array) -> bytes:
        """The upper halves, which hold all of it."""
        return (scales.view(np.uint32) >> np.uint32(16)).astype(DType.BFLOAT16.numpy).tobytes()

    def unpack_scales(self, data: memoryview) -> Array:
        """float32."""
        return as_float32(np.frombuffer(data, DType.BFLOAT16.numpy))

    def pack_steps(self, steps: Array) -> bytes:
        """Two per byte."""
        halves = np.zeros(2 * self.steps_bytes(steps.size), np.int8)
        halves[: steps.size] = steps.reshape(-1)
        packed = (halves[0::2] & np.int8(15)) | (halves[1::2] << np.int8(4))
        return packed.tobytes()

    def unpack_steps(self, data: memoryview, spec: TensorSpec) -> Array:
        """int8. Raises MalformedMessage where the spare half is not 0."""
        packed = np.frombuffer(data, np.int8)
        halves = np.empty((packed.size, 2), np.int8)
        # Shifting to the upper end and back repeats the sign.
        np.left_shift(packed, np.int8(4), out=halves[:, 0])
        halves[:, 0] >>= np.int8(4)
        np.right_shift(packed, np.int8(4), out=halves[:, 1])
        steps = halves.reshape(-1)
        if steps[spec.num_elements :].any():
            raise MalformedMessage(
                f"tensor {spec.name!r} has {spec.num_elements} int4 numbers, and more after the last; expected 0"
            )
        return steps[: spec.num_elements]

    def steps_bytes(self, num_elements: int) -> int:
        """1 for every two, the last maybe alone."""
        return (num_elements + 1) // 2
