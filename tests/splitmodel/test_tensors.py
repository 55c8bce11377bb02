"""Tensors to arrays of the wire and back, and the error between two boundaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitmodel.tensors import from_numpy, relative_error, to_numpy
from wire.tensors import DType, TensorSpec


@pytest.mark.parametrize(
    ("dtype", "wire_dtype"),
    [(torch.float32, DType.FLOAT32), (torch.float16, DType.FLOAT16), (torch.bfloat16, DType.BFLOAT16)],
)
def test_round_trip_keeps_every_bit(dtype: torch.dtype, wire_dtype: DType) -> None:
    tensor = torch.randn(2, 3, 4).to(dtype).transpose(0, 1)
    array = to_numpy(tensor)
    assert array.flags.c_contiguous
    back = from_numpy(array, TensorSpec("x", wire_dtype, array.shape))
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


def test_read_only_array_becomes_a_tensor_of_its_own() -> None:
    array = np.arange(4, dtype=np.float32)
    array.flags.writeable = False
    tensor = from_numpy(array, TensorSpec("x", DType.FLOAT32, (4,)))
    tensor += 1
    assert array.tolist() == [0, 1, 2, 3]


def test_relative_error_is_over_all_tensors_together() -> None:
    reference = [torch.tensor([3.0]), torch.tensor([0.0, 4.0])]
    assert relative_error(reference, reference) == 0
    assert relative_error([torch.tensor([3.0]), torch.tensor([0.5, 4.0])], reference) == pytest.approx(0.1)


def test_error_against_nothing_is_all_or_none() -> None:
    zero = [torch.zeros(2)]
    assert relative_error(zero, zero) == 0
    assert relative_error([torch.ones(2)], zero) == 1
