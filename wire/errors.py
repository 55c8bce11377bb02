"""Every error of Cleave, whose fault it is, and its translation to gRPC and to `Failed`.

    CleaveError
    ├── BadInput             caller   what the user gave: a file, a picture, a setting
    ├── UnknownModel         caller
    ├── UnknownSplitPoint    caller
    ├── UnknownCodec         caller
    ├── IncompatibleBundle   caller   a digest or a format version does not match
    ├── MalformedMessage     caller   the peer broke the wire format or the protocol
    ├── TooLarge             caller   over a limit
    ├── Corrupt              network  a CRC or a SHA-256 does not match
    ├── Overloaded           server   try again after `retry_after_s`
    ├── DeadlineExceeded     server
    ├── Cancelled            caller
    ├── Unavailable          network  cannot connect, or the server is draining
    ├── ModelFailed          server   inside the model
    ├── Internal             server   a bug
    ├── Denied               caller   no credentials, or wrong ones; a bundle that nobody trusts
    └── LimitReached         caller   a limit of this tenant; come back after `retry_after_s`

A message is one sentence: what, got, expected, what to do. Only this module knows gRPC's status codes.
"""

import math
from enum import IntEnum
from typing import Any, ClassVar

import grpc
from google.protobuf.message import DecodeError

from wire.v1 import inference_pb2 as pb

MAX_MESSAGE_CHARS = 2000
TRAILER_KEY = "cleave-failed-bin"


class ErrorCode(IntEnum):
    """The class of an error, numbered as `ErrorCode` in the proto."""

    BAD_INPUT = 1
    UNKNOWN_MODEL = 2
    UNKNOWN_SPLIT_POINT = 3
    UNKNOWN_CODEC = 4
    INCOMPATIBLE_BUNDLE = 5
    MALFORMED_MESSAGE = 6
    TOO_LARGE = 7
    CORRUPT = 8
    OVERLOADED = 9
    DEADLINE_EXCEEDED = 10
    CANCELLED = 11
    UNAVAILABLE = 12
    MODEL_FAILED = 13
    INTERNAL = 14
    DENIED = 15
    LIMIT_REACHED = 16


class Fault(IntEnum):
    """Who has to change something, numbered as `Fault` in the proto."""

    CALLER = 1
    SERVER = 2
    NETWORK = 3


class CleaveError(Exception):
    """The root of the tree; raise a subclass."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    fault: Fault = Fault.SERVER

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, fault: Fault | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        if fault is not None:
            self.fault = fault


class BadInput(CleaveError):
    """What the user gave cannot be used: a file, a picture, a setting."""

    code = ErrorCode.BAD_INPUT
    fault = Fault.CALLER


class UnknownModel(CleaveError):
    """No such model here."""

    code = ErrorCode.UNKNOWN_MODEL
    fault = Fault.CALLER


class UnknownSplitPoint(CleaveError):
    """No such split point in this chain, or it is not served."""

    code = ErrorCode.UNKNOWN_SPLIT_POINT
    fault = Fault.CALLER


class UnknownCodec(CleaveError):
    """No such codec or setting here."""

    code = ErrorCode.UNKNOWN_CODEC
    fault = Fault.CALLER


class IncompatibleBundle(CleaveError):
    """The two sides hold different weights, preprocessing or formats."""

    code = ErrorCode.INCOMPATIBLE_BUNDLE
    fault = Fault.CALLER


class MalformedMessage(CleaveError):
    """The peer broke the wire format or the protocol."""

    code = ErrorCode.MALFORMED_MESSAGE
    fault = Fault.CALLER


class TooLarge(CleaveError):
    """Over a limit."""

    code = ErrorCode.TOO_LARGE
    fault = Fault.CALLER


class Corrupt(CleaveError):
    """Bytes changed on the way: a CRC or a SHA-256 does not match."""

    code = ErrorCode.CORRUPT
    fault = Fault.NETWORK


class Overloaded(CleaveError):
    """Nothing free now; try again after `retry_after_s`."""

    code = ErrorCode.OVERLOADED
    fault = Fault.SERVER


class DeadlineExceeded(CleaveError):
    """The answer was not ready in time."""

    code = ErrorCode.DEADLINE_EXCEEDED
    fault = Fault.SERVER


class Cancelled(CleaveError):
    """The caller does not want the answer any more."""

    code = ErrorCode.CANCELLED
    fault = Fault.CALLER


class Unavailable(CleaveError):
    """The peer cannot be reached, or is draining."""

    code = ErrorCode.UNAVAILABLE
    fault = Fault.NETWORK


class ModelFailed(CleaveError):
    """The model itself raised, or gave numbers that are not finite."""

    code = ErrorCode.MODEL_FAILED
    fault = Fault.SERVER


class Internal(CleaveError):
    """A bug on the side that sends this."""

    code = ErrorCode.INTERNAL
    fault = Fault.SERVER


class Denied(CleaveError):
    """The caller showed no credentials, or wrong ones."""

    code = ErrorCode.DENIED
    fault = Fault.CALLER


class LimitReached(CleaveError):
    """A limit of this tenant; the message says which, `retry_after_s` when to come back."""

    code = ErrorCode.LIMIT_REACHED
    fault = Fault.CALLER


# The one table: class of error -> gRPC status. Both code tables below follow from it.
_STATUS: dict[type[CleaveError], grpc.StatusCode] = {
    BadInput: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    UnknownSplitPoint: grpc.StatusCode.OUT_OF_RANGE,
    UnknownCodec: grpc.StatusCode.UNIMPLEMENTED,
    IncompatibleBundle: grpc.StatusCode.FAILED_PRECONDITION,
    MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Corrupt: grpc.StatusCode.DATA_LOSS,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    ModelFailed: grpc.StatusCode.INTERNAL,
    Internal: grpc.StatusCode.INTERNAL,
    Denied: grpc.StatusCode.UNAUTHENTICATED,
    LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_CLASS_OF_CODE: dict[int, type[CleaveError]] = {int(error.code): error for error in _STATUS}

# Statuses that gRPC itself makes, or a peer without our trailer: what each one means, and what to do.
_MEANING: dict[grpc.StatusCode, tuple[type[CleaveError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (Unavailable, "cannot reach {0}; check the address, and that a server runs"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "{0} did not answer in time; allow more seconds"),
    grpc.StatusCode.CANCELLED: (Cancelled, "the call to {0} was cancelled"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Overloaded, "{0} is at a limit; send less, or try again later"),
    grpc.StatusCode.INVALID_ARGUMENT: (MalformedMessage, "{0} refused the message"),
    grpc.StatusCode.UNIMPLEMENTED: (MalformedMessage, "{0} does not speak wire.v1.Inference; check the port"),
    grpc.StatusCode.NOT_FOUND: (UnknownModel, "{0} does not have what was asked for"),
    grpc.StatusCode.FAILED_PRECONDITION: (IncompatibleBundle, "{0} refused this bundle or version"),
    grpc.StatusCode.DATA_LOSS: (Corrupt, "bytes were damaged on the way to or from {0}; send again"),
    grpc.StatusCode.UNAUTHENTICATED: (Denied, "{0} wants credentials, or refused those given"),
    grpc.StatusCode.PERMISSION_DENIED: (Denied, "{0} does not allow this call"),
}


def status_of(error: BaseException) -> grpc.StatusCode:
    """The gRPC status that ends a call with this error; INTERNAL for what is not a `CleaveError`."""
    for ancestor in type(error).__mro__:
        if ancestor in _STATUS:
            return _STATUS[ancestor]
    return grpc.StatusCode.INTERNAL


def to_failed(request_id: str, error: BaseException) -> pb.Failed:
    """The message that ends one request; what is not a `CleaveError` becomes `Internal`, without its text.

    The text of an unforeseen exception may hold user data or paths, so only its class is named.
    """
    if not isinstance(error, CleaveError):
        error = Internal(f"unforeseen {type(error).__name__}; the server's log says more")
    failed = pb.Failed(
        request_id=request_id,
        code=pb.ErrorCode.ValueType(error.code),
        fault=pb.Fault.ValueType(error.fault),
        message=str(error)[:MAX_MESSAGE_CHARS],
    )
    if error.retry_after_s is not None:
        failed.retry_after_s = error.retry_after_s
    return failed


def from_failed(failed: pb.Failed) -> CleaveError:
    """The error that a peer sent; a code that this version does not know becomes `Internal`."""
    error_class = _CLASS_OF_CODE.get(failed.code, Internal)
    retry_after_s = failed.retry_after_s if failed.HasField("retry_after_s") else None
    if retry_after_s is not None and not 0 <= retry_after_s < math.inf:
        retry_after_s = None
    known_faults = {int(fault) for fault in Fault}
    fault = Fault(failed.fault) if failed.fault in known_faults else None
    return error_class(_one_line(failed.message), retry_after_s=retry_after_s, fault=fault)


def to_trailer(error: BaseException) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries the whole error where a status ends the call."""
    return ((TRAILER_KEY, to_failed("", error).SerializeToString()),)


def from_rpc_error(error: grpc.RpcError, address: str) -> CleaveError:
    """The error behind a failed call to `address`: from its trailer if there is one, else from its status."""
    trailer: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in trailer or ():
        if key == TRAILER_KEY:
            try:
                return from_failed(pb.Failed.FromString(value))
            except DecodeError:
                break
    status = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    details = (error.details() if hasattr(error, "details") else "") or "no details"
    error_class, meaning = _MEANING.get(status, (Internal, "the call to {0} failed"))
    text = f"{meaning.format(address)} (gRPC {status.name}: {details})"
    return error_class(_one_line(text))


def _one_line(text: str) -> str:
    """A peer's sentence, for a log or a terminal: what would end its line or move the cursor is a space."""
    shown = "".join(char if char.isprintable() else " " for char in text[:MAX_MESSAGE_CHARS])
    return " ".join(shown.split())
