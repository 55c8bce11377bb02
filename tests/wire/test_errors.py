"""The tree of errors, its messages, and its translation to gRPC and back over a real server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from wire import errors
from wire.errors import (
    CleaveError,
    Corrupt,
    ErrorCode,
    Fault,
    Internal,
    Overloaded,
    TooLarge,
    Unavailable,
    from_failed,
    from_rpc_error,
    status_of,
    to_failed,
    to_trailer,
)
from wire.limits import MAX_MESSAGE_BYTES, grpc_options
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

CLASSES = CleaveError.__subclasses__()


class FailingService(pb_grpc.InferenceServicer):
    """Ends every Describe as its error says, with or without the trailer."""

    def __init__(self) -> None:
        self.error: CleaveError = Internal("unset")
        self.has_trailer = True

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeReply:
        if self.has_trailer:
            context.set_trailing_metadata(to_trailer(self.error))
        context.abort(status_of(self.error), str(self.error))
        raise AssertionError("abort raises")

    def FetchBundle(
        self, request: pb.FetchBundleRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.BundlePart]:
        yield pb.BundlePart(data=bytes(MAX_MESSAGE_BYTES + 1))


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[FailingService, pb_grpc.InferenceStub]]:
    server = grpc.server(ThreadPoolExecutor(2), options=grpc_options())
    failing = FailingService()
    pb_grpc.add_InferenceServicer_to_server(failing, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=grpc_options()) as channel:
        yield failing, pb_grpc.InferenceStub(channel)
    server.stop(None).wait()


def test_codes_and_faults_are_those_of_the_proto() -> None:
    assert {f"ERROR_CODE_{code.name}": int(code) for code in ErrorCode} == dict(pb.ErrorCode.items()[1:])
    assert {f"FAULT_{fault.name}": int(fault) for fault in Fault} == dict(pb.Fault.items()[1:])


def test_every_class_has_its_own_code_a_status_and_a_line_in_the_docstring() -> None:
    assert {error.code for error in CLASSES} == set(ErrorCode)
    assert len(CLASSES) == len(ErrorCode)
    for error in CLASSES:
        assert status_of(error("x")) is not grpc.StatusCode.UNKNOWN
        [line] = [line for line in (errors.__doc__ or "").splitlines() if f"─ {error.__name__} " in line]
        assert error.fault.name.lower() in line


@pytest.mark.parametrize("error_class", CLASSES)
def test_failed_carries_class_fault_message_and_retry(error_class: type[CleaveError]) -> None:
    sent = error_class("what, got, expected", retry_after_s=1.5)
    got = from_failed(pb.Failed.FromString(to_failed("r1", sent).SerializeToString()))
    assert type(got) is error_class
    assert (str(got), got.fault, got.retry_after_s) == (str(sent), sent.fault, 1.5)
    assert from_failed(to_failed("r1", error_class("x"))).retry_after_s is None


def test_fault_of_one_error_can_differ_from_its_class() -> None:
    got = from_failed(to_failed("r1", Corrupt("disk", fault=Fault.SERVER)))
    assert (got.fault, Corrupt.fault) == (Fault.SERVER, Fault.NETWORK)


def test_subclass_has_the_status_of_its_ancestor() -> None:
    class QueueFull(Overloaded):
        pass

    assert status_of(QueueFull("full")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert type(from_failed(to_failed("r", QueueFull("full")))) is Overloaded


def test_unforeseen_exception_becomes_internal_and_its_text_stays_home() -> None:
    failed = to_failed("r1", KeyError("the user's text"))
    assert failed.code == pb.ERROR_CODE_INTERNAL
    assert "KeyError" in failed.message
    assert "user" not in failed.message
    assert status_of(KeyError("x")) is grpc.StatusCode.INTERNAL


def test_unknown_code_and_fault_of_a_newer_peer_become_internal() -> None:
    failed = pb.Failed.FromString(b"\x10\x63\x18\x63\x22\x01x")
    assert (type(from_failed(failed)), from_failed(failed).fault) == (Internal, Fault.SERVER)


def test_long_message_is_cut() -> None:
    assert len(to_failed("r1", Internal("x" * 10_000)).message) == errors.MAX_MESSAGE_CHARS


@pytest.mark.parametrize("error_class", CLASSES)
def test_status_with_trailer_gives_the_same_class(
    service: tuple[FailingService, pb_grpc.InferenceStub], error_class: type[CleaveError]
) -> None:
    failing, stub = service
    failing.error, failing.has_trailer = error_class("what, got", retry_after_s=2.0), True
    with pytest.raises(grpc.RpcError) as caught:
        stub.Describe(pb.DescribeRequest(), timeout=10)
    got = from_rpc_error(caught.value, "here:1")
    assert (type(got), str(got), got.retry_after_s) == (error_class, "what, got", 2.0)


@pytest.mark.parametrize("error_class", CLASSES)
def test_status_without_trailer_gives_an_error_that_names_the_address(
    service: tuple[FailingService, pb_grpc.InferenceStub], error_class: type[CleaveError]
) -> None:
    failing, stub = service
    failing.error, failing.has_trailer = error_class("what, got"), False
    with pytest.raises(grpc.RpcError) as caught:
        stub.Describe(pb.DescribeRequest(), timeout=10)
    got = from_rpc_error(caught.value, "here:1")
    assert "here:1" in str(got)
    assert "what, got" in str(got)


def test_message_over_grpcs_limit_is_an_error_of_ours(
    service: tuple[FailingService, pb_grpc.InferenceStub],
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(service[1].FetchBundle(pb.FetchBundleRequest(), timeout=10))
    assert isinstance(from_rpc_error(caught.value, "here:1"), Overloaded | TooLarge)


def test_method_that_is_not_served_says_so(service: tuple[FailingService, pb_grpc.InferenceStub]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(service[1].Stream(iter([]), timeout=10))
    assert "does not speak wire.v1.Inference" in str(from_rpc_error(caught.value, "here:1"))


def test_unreachable_address_is_unavailable_and_says_what_to_do() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.InferenceStub(channel).Describe(pb.DescribeRequest(), timeout=10)
    got = from_rpc_error(caught.value, "127.0.0.1:1")
    assert isinstance(got, Unavailable)
    assert "cannot reach 127.0.0.1:1" in str(got)


def test_rpc_error_without_code_is_internal() -> None:
    assert isinstance(from_rpc_error(grpc.RpcError(), "here:1"), Internal)


def test_trailer_that_is_no_message_leaves_the_status() -> None:
    class Ended(grpc.RpcError):
        def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
            return ((errors.TRAILER_KEY, b"\xff\xff\xff"),)

        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.NOT_FOUND

    assert isinstance(from_rpc_error(Ended(), "host:1"), errors.UnknownModel)
