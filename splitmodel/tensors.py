"""Tensors of torch as arrays of the wire and back; bfloat16, which numpy lacks, travels as uint16."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wire.tensors import DType, TensorSpec


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """A contiguous array of the same numbers; bfloat16 as the uint16 of its bits."""
    plain = tensor.detach().to("cpu").contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.uint16).numpy()
    return plain.numpy()


def from_numpy(array: NDArray[Any], spec: TensorSpec) -> Tensor:
    """The tensor that an array of the wire stands for; copies only what torch could not write to."""
    owned = array if array.flags.writeable and array.flags.c_contiguous else np.array(array, order="C")
    tensor = torch.from_numpy(owned)
    return tensor.view(torch.bfloat16) if spec.dtype is DType.BFLOAT16 else tensor


def relative_error(values: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Relative L2 error over all tensors of a boundary together; 0 of tensors without numbers, which tell nothing."""
    if any(tensor.is_meta for tensor in (*values, *reference)):
        return 0.0
    pairs = [(a.double(), b.double()) for a, b in zip(values, reference, strict=True)]
    difference = sum(float(torch.sum((a - b) ** 2)) for a, b in pairs)
    norm = sum(float(torch.sum(b**2)) for _, b in pairs)
    return sqrt(difference / norm) if norm else float(difference > 0)
