"""What int8 and int4 share: a number is a whole number of steps, one step (the scale) per group of numbers.

scale = absmax / levels; q = round(x / scale), to nearest even, in -levels..levels; x' = q * scale. A group is a
channel (an index of the last axis), a token (a vector along it), or a run of numbers of one token, the last run
maybe shorter. Coded: the scales in C order, then every q in C order.
Source: Jacob et al. 2018, arXiv:1712.05877, without zero point; per token, Yao et al. 2022, arXiv:2206.01861; per
run, Dettmers and Zettlemoyer 2023, arXiv:2212.09720.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from wire.codecs.base import as_float32, check_size
from wire.codecs.half import from_float32
from wire.codecs.raw import RAW
from wire.errors import BadInput, MalformedMessage
from wire.tensors import Array, DType, TensorSpec

Grouping = Literal["channel", "token", "group32"]

_FLOAT32_MAX = np.array(np.finfo(np.float32).max)
_RUN_LENGTHS: dict[Grouping, int] = {"group32": 32}
# Rounding of the decoded number to the tensor's own dtype: of the magnitude, and at least.
_OUTPUT_ROUNDING = {
    DType.FLOAT32: (2.0**-24, 2.0**-150),
    DType.FLOAT16: (2.0**-11, 2.0**-25),
    DType.BFLOAT16: (2.0**-8, 2.0**-134),
}


@dataclass(frozen=True, slots=True)
class Symmetric(ABC):
    """Tensors that are not float pass raw. A subclass says how scales and numbers are written."""

    setting: Grouping

    codec_id: ClassVar[str]
    levels: ClassVar[int]
    scale_bytes: ClassVar[int]
    is_lossless = False

    def __str__(self) -> str:
        return f"{self.codec_id}:{self.setting}"

    @abstractmethod
    def scales_of(self, absmax: Array) -> Array:
        """The scales (float32, as the decoder reads them) of groups with these largest magnitudes."""

    @abstractmethod
    def scale_slack(self, absmax: Array) -> Array:
        """What a number's error can exceed half a scale by, before it is rounded to its dtype; float64."""

    @abstractmethod
    def pack_scales(self, scales: Array) -> bytes:
        """`scale_bytes` for each of what `scales_of` gave."""

    @abstractmethod
    def unpack_scales(self, data: memoryview) -> Array:
        """float32, maybe not finite: whoever sent them may mean harm."""

    @abstractmethod
    def pack_steps(self, steps: Array) -> bytes:
        """float32 whole numbers in -levels..levels, of any shape."""

    @abstractmethod
    def unpack_steps(self, data: memoryview, spec: TensorSpec) -> Array:
        """int8, one per number of the spec. Raises MalformedMessage."""

    @abstractmethod
    def steps_bytes(self, num_elements: int) -> int:
        """What `pack_steps` makes of so many."""

    def encode_tensor(self, array: Array) -> bytes:
        """Scales and numbers. Raises BadInput for numbers that are not finite."""
        if not DType.of(array).is_float:
            return RAW.encode_tensor(array)
        if array.size == 0:
            return b""
        rows = _as_rows(as_float32(array), array.shape)
        absmax = _absmax(rows, self.setting)
        if not np.isfinite(absmax).all():
            raise BadInput(
                f"codec {self.codec_id} got numbers that are not finite; it holds finite ones; use raw"
            )
        scales = self.scales_of(absmax)
        # A scale of 0 means that all is 0 (or a small subnormal): dividing by 1 gives 0 as well.
        divisors = np.where(scales > 0, scales, np.float32(1))
        steps = rows / _over_rows(divisors, rows.shape[1], self.setting)
        np.rint(steps, out=steps)
        # Only a subnormal or a lowered scale lets a number come out above the last level.
        np.clip(steps, -np.float32(self.levels), np.float32(self.levels), out=steps)
        return self.pack_scales(scales) + self.pack_steps(steps)

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """A new array. Raises MalformedMessage."""
        if not spec.dtype.is_float:
            return RAW.decode_tensor(data, spec)
        check_size(self, data, spec, self.max_payload_bytes(spec))
        if spec.num_elements == 0:
            return np.empty(spec.shape, spec.dtype.numpy)
        end = self.scale_bytes * _num_scales(spec, self.setting)
        scales = self.unpack_scales(data[:end])
        if not (scales.min() >= 0 and scales.max() <= self.scales_of(_FLOAT32_MAX)):
            raise MalformedMessage(
                f"tensor {spec.name!r} has an {self.codec_id} scale that is negative or not finite"
            )
        rows = _as_rows(self.unpack_steps(data[end:], spec), spec.shape)
        by_group = scales.reshape(1 if self.setting == "channel" else rows.shape[0], -1)
        with np.errstate(over="ignore"):  # a step below the last is never sent; who does may get an infinity
            values = rows * _over_rows(by_group, rows.shape[1], self.setting)
        return from_float32(values.reshape(spec.shape), spec)

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """Exactly that."""
        if not spec.dtype.is_float:
            return spec.num_bytes
        return self.steps_bytes(spec.num_elements) + self.scale_bytes * _num_scales(spec, self.setting)

    def item_bytes(self, dtype: DType) -> int:
        """1, or the element's where the tensor passes raw."""
        return 1 if dtype.is_float else dtype.item_bytes

    def error_bound(self, array: Array) -> Array | float:
        """Half a scale, the rounding of scale, quotient and product, and of the result in its own dtype."""
        dtype = DType.of(array)
        if not dtype.is_float or array.size == 0:
            return 0.0
        rows = _as_rows(as_float32(array), array.shape)
        absmax = _absmax(rows, self.setting)
        per_scale = self.scales_of(absmax).astype(np.float64) / 2 + self.scale_slack(absmax)
        over_rows = np.broadcast_to(_over_rows(per_scale, rows.shape[1], self.setting), rows.shape)
        bound: Array = over_rows.reshape(array.shape)
        relative, smallest = _OUTPUT_ROUNDING[dtype]
        magnitudes: Array = np.abs(rows.astype(np.float64)).reshape(array.shape)
        return bound + np.maximum((magnitudes + bound) * relative, smallest)


def _as_rows(array: Array, shape: tuple[int, ...]) -> Array:
    """[tokens, channels]; a scalar is one token of one channel."""
    return array.reshape(-1, shape[-1] if shape else 1)


def _num_scales(spec: TensorSpec, grouping: Grouping) -> int:
    if spec.num_elements == 0:
        return 0
    channels = spec.shape[-1] if spec.shape else 1
    if grouping == "channel":
        return channels
    return spec.num_elements // channels * -(-channels // _RUN_LENGTHS.get(grouping, channels))


def _absmax(rows: Array, grouping: Grouping) -> Array:
    """Largest magnitude per group, NaN if one is: [1, channels], [tokens, 1] or [tokens, runs]."""
    # Two reductions without a temporary the size of the tensor, which np.abs would make.
    if grouping in _RUN_LENGTHS:
        starts = np.arange(0, rows.shape[1], _RUN_LENGTHS[grouping])
        highest = np.maximum.reduceat(rows, starts, axis=1)
        lowest = np.minimum.reduceat(rows, starts, axis=1)
    else:
        axis = 0 if grouping == "channel" else 1
        highest, lowest = rows.max(axis=axis, keepdims=True), rows.min(axis=axis, keepdims=True)
    magnitude: Array = np.maximum(highest, -lowest)
    return magnitude


def _over_rows(by_group: Array, channels: int, grouping: Grouping) -> Array:
    """What each group has, so that it broadcasts to [tokens, channels]."""
    if grouping not in _RUN_LENGTHS:
        return by_group
    return np.repeat(by_group, _RUN_LENGTHS[grouping], axis=1)[:, :channels]
