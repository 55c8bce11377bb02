"""Two bytes per number: IEEE 754 binary16, and bfloat16 (upper half of binary32); round to nearest even."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from wire.codecs.base import as_float32, check_size
from wire.codecs.raw import RAW
from wire.errors import BadInput
from wire.tensors import Array, DType, TensorSpec

# From here on, a binary32 rounds to a bfloat16 infinity: half a step above the largest finite bfloat16.
_BF16_OVERFLOW = np.uint32(0x7F7F8000)
_FP16_OVERFLOW = np.float32(65520.0)


@dataclass(frozen=True, slots=True)
class Fp16:
    """11 significant bits, magnitudes up to 65504. Tensors that are not float pass raw."""

    codec_id = "fp16"
    setting = ""
    is_lossless = False

    def __str__(self) -> str:
        return self.codec_id

    def encode_tensor(self, array: Array) -> bytes:
        """2 bytes per number. Raises BadInput for NaN, infinities and magnitudes of 65520 or more."""
        if not DType.of(array).is_float:
            return RAW.encode_tensor(array)
        values = as_float32(array)
        # min and max carry NaN along, and so fail the comparison.
        if values.size and not (values.max() < _FP16_OVERFLOW and values.min() > -_FP16_OVERFLOW):
            _refuse(self.codec_id, values, "magnitudes under 65520", "bf16 or raw")
        return values.astype(DType.FLOAT16.numpy).tobytes()

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """float32 is a copy, float16 a read-only view. Raises MalformedMessage."""
        if not spec.dtype.is_float:
            return RAW.decode_tensor(data, spec)
        check_size(self, data, spec, self.max_payload_bytes(spec))
        halves = np.frombuffer(data, dtype=DType.FLOAT16.numpy).reshape(spec.shape)
        halves.flags.writeable = False
        return from_float32(halves.astype(np.float32), spec) if spec.dtype is not DType.FLOAT16 else halves

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """Exactly 2 bytes per number."""
        return spec.num_elements * self.item_bytes(spec.dtype)

    def item_bytes(self, dtype: DType) -> int:
        """2, or the element's where the tensor passes raw."""
        return 2 if dtype.is_float else dtype.item_bytes

    def error_bound(self, array: Array) -> Array | float:
        """Half a step: 2^-11 of the magnitude, and at least 2^-25 (half of the smallest subnormal)."""
        return _half_step(array, DType.FLOAT16, 2.0**-11, 2.0**-25)


@dataclass(frozen=True, slots=True)
class Bf16:
    """8 significant bits, the range of float32. Tensors that are not float pass raw."""

    codec_id = "bf16"
    setting = ""
    is_lossless = False

    def __str__(self) -> str:
        return self.codec_id

    def encode_tensor(self, array: Array) -> bytes:
        """2 bytes per number. Raises BadInput for NaN, infinities and what rounds to an infinity."""
        dtype = DType.of(array)
        if not dtype.is_float:
            return RAW.encode_tensor(array)
        values = as_float32(array)
        halves = to_bfloat16(values)
        if halves is None:
            _refuse(self.codec_id, values, "magnitudes under 3.39e38", "raw")
        # 65504 rounds up to 65536 here, which its own dtype could not hold after decoding.
        if dtype is DType.FLOAT16 and values.size and np.abs(values).max() >= 65408:
            _refuse(self.codec_id, values, "float16 magnitudes under 65408", "fp16 or raw")
        return halves.tobytes()

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """float32 is a copy, bfloat16 a read-only view. Raises MalformedMessage."""
        if not spec.dtype.is_float:
            return RAW.decode_tensor(data, spec)
        check_size(self, data, spec, self.max_payload_bytes(spec))
        halves = np.frombuffer(data, dtype=DType.BFLOAT16.numpy).reshape(spec.shape)
        halves.flags.writeable = False
        return from_float32(as_float32(halves), spec) if spec.dtype is not DType.BFLOAT16 else halves

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """Exactly 2 bytes per number."""
        return spec.num_elements * self.item_bytes(spec.dtype)

    def item_bytes(self, dtype: DType) -> int:
        """2, or the element's where the tensor passes raw."""
        return 2 if dtype.is_float else dtype.item_bytes

    def error_bound(self, array: Array) -> Array | float:
        """Half a step: 2^-8 of the magnitude, and at least 2^-134 (half of the smallest subnormal)."""
        return _half_step(array, DType.BFLOAT16, 2.0**-8, 2.0**-134)


def to_bfloat16(values: Array) -> Array | None:
    """float32 rounded to bfloat16 bits (uint16), or None where one is not finite or rounds to infinity."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    if bits.size and (bits & np.uint32(0x7FFFFFFF)).max() >= _BF16_OVERFLOW:
        return None
    # Adding just under half a step rounds to nearest; the lowest bit kept makes ties go to even.
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    return rounded.astype(DType.BFLOAT16.numpy).reshape(values.shape)


def from_float32(values: Array, spec: TensorSpec) -> Array:
    """float32, which may be overwritten, as the spec's float dtype.

    What a peer sent out of range may become infinite, as with `raw`.
    """
    if spec.dtype is DType.FLOAT32:
        return values
    if spec.dtype is DType.FLOAT16:
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(DType.FLOAT16.numpy)
    halves = to_bfloat16(values)
    if halves is not None:
        return halves
    bits = values.view(np.uint32)
    bits >>= np.uint32(16)
    return bits.astype(DType.BFLOAT16.numpy)


def _half_step(array: Array, exact: DType, relative: float, smallest: float) -> Array | float:
    dtype = DType.of(array)
    if not dtype.is_float or dtype is exact:
        return 0.0
    magnitudes: Array = np.abs(as_float32(array).astype(np.float64))
    return np.maximum(magnitudes * relative, smallest)


def _refuse(codec_id: str, values: Array, range_text: str, instead: str) -> NoReturn:
    is_finite = np.isfinite(values)
    if is_finite.all():
        got = f"a magnitude of {np.abs(values).max():.4g}"
    else:
        got = f"{values.size - int(is_finite.sum())} of {values.size} numbers that are not finite"
        instead = "raw"
    raise BadInput(f"codec {codec_id} got {got}; it holds finite numbers of {range_text}; use {instead}")
