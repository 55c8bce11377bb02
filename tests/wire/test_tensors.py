"""Dtypes, specs, and the check of a peer's headers."""

import numpy as np
import pytest

from wire.errors import BadInput, MalformedMessage, TooLarge
from wire.limits import MAX_TENSOR_BYTES
from wire.tensors import DType, FeatureTensor, TensorSpec, check_headers, make_headers
from wire.v1 import inference_pb2 as pb

SPEC = TensorSpec("features", DType.FLOAT32, (1, 16, 8))
MASK = TensorSpec("mask", DType.BOOL, (1, 16))


@pytest.mark.parametrize("dtype", DType)
def test_dtype_survives_the_wire_its_name_and_numpy(dtype: DType) -> None:
    assert DType.from_wire(dtype.to_wire()) is dtype
    assert DType.parse(dtype.value) is dtype
    assert DType.of(np.zeros(1, dtype.numpy)) is dtype
    assert DType.of(np.zeros(1, dtype.numpy.newbyteorder(">"))) is dtype


def test_every_dtype_of_the_proto_is_in_the_table() -> None:
    assert set(pb.DType.values()) - {0} == {dtype.to_wire() for dtype in DType}


@pytest.mark.parametrize("number", [0, 10, 99, -1])
def test_unknown_dtype_number_is_malformed(number: int) -> None:
    with pytest.raises(MalformedMessage, match="dtype number"):
        DType.from_wire(number)


@pytest.mark.parametrize("name", ["", "object", "float64", "numpy.float32"])
def test_unknown_dtype_name_is_malformed(name: str) -> None:
    with pytest.raises(MalformedMessage, match="expected one of float32"):
        DType.parse(name)


@pytest.mark.parametrize("dtype", ["float64", "complex64", "O", "U3"])
def test_array_of_foreign_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(MalformedMessage, match="cannot cross the wire"):
        DType.of(np.zeros(1, dtype))


def test_spec_counts_elements_and_bytes() -> None:
    assert (SPEC.num_elements, SPEC.num_bytes) == (128, 512)
    assert TensorSpec("scalar", DType.BFLOAT16, ()).num_bytes == 2
    assert TensorSpec("empty", DType.INT64, (4, 0)).num_bytes == 0


def test_stacked_tensors_lie_along_a_first_axis_of_their_own() -> None:
    assert SPEC.stacked(5) == TensorSpec("features", DType.FLOAT32, (5, 1, 16, 8))
    assert SPEC.stacked(0).num_bytes == 0


def test_stacked_tensors_are_within_the_bounds_of_any_tensor() -> None:
    with pytest.raises(TooLarge, match="takes over"):
        SPEC.stacked(MAX_TENSOR_BYTES // SPEC.num_bytes + 1)
    with pytest.raises(MalformedMessage, match="negative dim"):
        SPEC.stacked(-1)
    with pytest.raises(MalformedMessage, match="9 dims"):
        TensorSpec("deep", DType.INT8, (1,) * 8).stacked(2)


@pytest.mark.parametrize(
    "shape", [(2**31, 2**31, 2**31), (2**63,), (0, 2**63), (2**32, 2**32, 0), (MAX_TENSOR_BYTES // 4 + 1,)]
)
def test_shape_overflow(shape: tuple[int, ...]) -> None:
    with pytest.raises(TooLarge, match="takes over"):
        TensorSpec("huge", DType.FLOAT32, shape)


@pytest.mark.parametrize(("name", "shape"), [("x", (1,) * 9), ("x", (-1,)), ("", (1,)), ("x" * 257, (1,))])
def test_spec_out_of_bounds_is_malformed(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedMessage):
        TensorSpec(name, DType.FLOAT32, shape)


def test_feature_tensor_refuses_an_array_of_another_shape_or_dtype() -> None:
    FeatureTensor(SPEC, np.zeros(SPEC.shape, np.float32))
    with pytest.raises(BadInput, match="expected float32"):
        FeatureTensor(SPEC, np.zeros(SPEC.shape, np.float16))
    with pytest.raises(BadInput, match=r"\(1, 16, 8\)"):
        FeatureTensor(SPEC, np.zeros((16, 8), np.float32))


def test_headers_equal_to_the_boundary_give_the_payload_sizes() -> None:
    headers = make_headers([SPEC, MASK], [512, 16])
    assert check_headers(headers, [SPEC, MASK]) == [512, 16]
    assert TensorSpec.from_wire(SPEC.to_wire()) == SPEC


@pytest.mark.parametrize("count", [0, 1, 3, 100_000])
def test_header_count_must_be_the_boundarys(count: int) -> None:
    headers = make_headers([SPEC], [512]) * count
    with pytest.raises(MalformedMessage, match="tensor headers"):
        check_headers(headers, [SPEC, MASK])


@pytest.mark.parametrize(
    "header",
    [
        pb.TensorHeader(name="features", dtype=pb.DTYPE_FLOAT16, dims=[1, 16, 8]),
        pb.TensorHeader(name="features", dtype=pb.DTYPE_FLOAT32, dims=[1, 16, 9]),
        pb.TensorHeader(name="features", dtype=pb.DTYPE_FLOAT32, dims=[16, 8]),
        pb.TensorHeader(name="other", dtype=pb.DTYPE_FLOAT32, dims=[1, 16, 8]),
        pb.TensorHeader(name="features", dtype=pb.DTYPE_FLOAT32, dims=[1] * 500_000),
    ],
)
def test_header_that_differs_from_the_boundary_is_malformed(header: pb.TensorHeader) -> None:
    with pytest.raises(MalformedMessage):
        check_headers([header], [SPEC])


def test_header_too_large() -> None:
    header = pb.TensorHeader(name="features", dtype=pb.DTYPE_FLOAT32, dims=[2**40, 2**40])
    with pytest.raises(TooLarge):
        check_headers([header], [SPEC])


def test_header_with_unknown_dtype_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="dtype number 77"):
        check_headers([pb.TensorHeader.FromString(b"\x0a\x01x\x10\x4d")], [SPEC])
