"""One byte per number, symmetric, with one scale per channel or per token.

scale = absmax / 127; q = round(x / scale), to nearest even, in -127..127; x' = q * scale. Channels are the
indices of the last axis; a token is one vector along it. Coded: the scales (float32), then q (int8), C order.
Source: Jacob et al. 2018, arXiv:1712.05877, without zero point; per token, Yao et al. 2022, arXiv:2206.01861.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from wire.codecs.base import as_float32, check_size
from wire.codecs.half import from_float32
from wire.codecs.raw import RAW
from wire.errors import BadInput, MalformedMessage
from wire.tensors import Array, DType, TensorSpec

_LEVELS = np.float32(127)
# 127 times a larger scale is no finite float32.
_MAX_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0), dtype=np.float32)
# Rounding of the decoded number to the tensor's own dtype: of the magnitude, and at least.
_OUTPUT_ROUNDING = {
    DType.FLOAT32: (2.0**-24, 2.0**-150),
    DType.FLOAT16: (2.0**-11, 2.0**-25),
    DType.BFLOAT16: (2.0**-8, 2.0**-134),
}


@dataclass(frozen=True, slots=True)
class Int8:
    """A quarter of float32. Tensors that are not float pass raw."""

    setting: Literal["channel", "token"] = "channel"

    codec_id = "int8"
    is_lossless = False

    def __str__(self) -> str:
        return f"{self.codec_id}:{self.setting}"

    def encode_tensor(self, array: Array) -> bytes:
        """Scales and numbers. Raises BadInput for numbers that are not finite."""
        if not DType.of(array).is_float:
            return RAW.encode_tensor(array)
        if array.size == 0:
            return b""
        rows = _as_rows(as_float32(array), array.shape)
        absmax = self._absmax(rows)
        if not np.isfinite(absmax).all():
            raise BadInput("codec int8 got numbers that are not finite; it holds finite ones; use raw")
        scales = _scales(absmax)
        # A scale of 0 means that all is 0 (or under 2^-143): dividing by 1 gives 0 as well.
        steps = rows / np.where(scales > 0, scales, np.float32(1))
        np.rint(steps, out=steps)
        # Only a subnormal or a lowered scale lets a number come out above 127.
        np.clip(steps, -_LEVELS, _LEVELS, out=steps)
        return scales.astype("<f4", copy=False).tobytes() + steps.astype(np.int8).tobytes()

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """A new array. Raises MalformedMessage."""
        if not spec.dtype.is_float:
            return RAW.decode_tensor(data, spec)
        check_size(self, data, spec, self.max_payload_bytes(spec))
        if spec.num_elements == 0:
            return np.empty(spec.shape, spec.dtype.numpy)
        num_scales = self._num_scales(spec)
        scales = np.frombuffer(data, dtype="<f4", count=num_scales)
        if not (scales.min() >= 0 and scales.max() <= _MAX_SCALE):
            raise MalformedMessage(f"tensor {spec.name!r} has an int8 scale that is negative or not finite")
        steps = np.frombuffer(data, dtype=np.int8, offset=4 * num_scales)
        rows = _as_rows(steps, spec.shape)
        with np.errstate(over="ignore"):  # -128 is never sent; a peer that does may get an infinity
            values = rows * (scales if self.setting == "channel" else scales[:, None])
        return from_float32(values.reshape(spec.shape), spec)

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """Exactly 1 byte per number and 4 per scale."""
        if not spec.dtype.is_float:
            return spec.num_bytes
        return spec.num_elements + 4 * self._num_scales(spec)

    def item_bytes(self, dtype: DType) -> int:
        """1, or the element's where the tensor passes raw."""
        return 1 if dtype.is_float else dtype.item_bytes

    def error_bound(self, array: Array) -> Array | float:
        """Half a step, the rounding of scale, quotient and product in float32, and of the result in its own.

        The scale is off by at most 2^-23 of itself (2^-150 where subnormal), 127 times that where a number is
        clipped.
        """
        dtype = DType.of(array)
        if not dtype.is_float or array.size == 0:
            return 0.0
        rows = _as_rows(as_float32(array), array.shape)
        absmax = self._absmax(rows)
        per_scale = _scales(absmax).astype(np.float64) / 2 + absmax * 2.0**-22 + 2.0**-142
        bound = np.broadcast_to(per_scale, rows.shape).reshape(array.shape)
        relative, smallest = _OUTPUT_ROUNDING[dtype]
        magnitudes: Array = np.abs(rows.astype(np.float64)).reshape(array.shape)
        return bound + np.maximum((magnitudes + bound) * relative, smallest)

    def _absmax(self, rows: Array) -> Array:
        """Largest magnitude per scale, NaN if one is: [channels], or [tokens, 1]."""
        axis = 0 if self.setting == "channel" else 1
        keepdims = self.setting == "token"
        # Two reductions without a temporary the size of the tensor, which np.abs would make.
        highest = rows.max(axis=axis, keepdims=keepdims)
        lowest: Array = rows.min(axis=axis, keepdims=keepdims)
        magnitude: Array = np.maximum(highest, -lowest)
        return magnitude

    def _num_scales(self, spec: TensorSpec) -> int:
        if spec.num_elements == 0:
            return 0
        channels = spec.shape[-1] if spec.shape else 1
        return channels if self.setting == "channel" else spec.num_elements // channels


def _as_rows(array: Array, shape: tuple[int, ...]) -> Array:
    """[tokens, channels]; a scalar is one token of one channel."""
    return array.reshape(-1, shape[-1] if shape else 1)


def _scales(absmax: Array) -> Array:
    return np.minimum(absmax / _LEVELS, _MAX_SCALE)
