"""The tensor as it is: little-endian, C order. The reference that every other codec is compared with."""

from dataclasses import dataclass

import numpy as np

from wire.codecs.base import check_size
from wire.errors import MalformedMessage
from wire.tensors import Array, DType, TensorSpec


@dataclass(frozen=True, slots=True)
class Raw:
    """Lossless; NaN payloads and negative zeros survive."""

    codec_id = "raw"
    setting = ""
    is_lossless = True

    def __str__(self) -> str:
        return self.codec_id

    def encode_tensor(self, array: Array) -> bytes:
        """The array's bytes. Raises MalformedMessage for a dtype that cannot cross."""
        return array.astype(DType.of(array).numpy, copy=False).tobytes()

    def decode_tensor(self, data: memoryview, spec: TensorSpec) -> Array:
        """A read-only view of `data`. Raises MalformedMessage."""
        check_size(self, data, spec, spec.num_bytes)
        array = np.frombuffer(data, dtype=spec.dtype.numpy).reshape(spec.shape)
        array.flags.writeable = False
        # numpy takes a bool byte of 2 for true here and for 2 there.
        if spec.dtype is DType.BOOL and array.size and array.view(np.uint8).max() > 1:
            raise MalformedMessage(f"tensor {spec.name!r} is bool and holds a byte above 1")
        return array

    def max_payload_bytes(self, spec: TensorSpec) -> int:
        """Exactly the tensor's bytes."""
        return spec.num_bytes

    def item_bytes(self, dtype: DType) -> int:
        """The element's."""
        return dtype.item_bytes

    def error_bound(self, array: Array) -> float:
        """0."""
        return 0.0


RAW = Raw()
