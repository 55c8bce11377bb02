"""The stream's messages with a checksum each: what was damaged on its way is an error, and no other message.

TCP's own checksum misses errors at scale, and a proxy's memory has none at all. Payloads have a CRC of their own, so
that of a Chunk only what says where its data belongs is covered here. The checksum is a field that comes last, as a
peer that does not know it passes it over; one that does not send it is believed.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import grpc
from google.protobuf.message import DecodeError

from wire.errors import Corrupt
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

_METHOD = "/wire.v1.Inference/Stream"
# Field 15, four bytes (https://protobuf.dev/programming-guides/encoding/).
_TAG = bytes([15 << 3 | 5])
_CHECK_BYTES = 5


def encode(message: pb.Up | pb.Down) -> bytes:
    """The message and its checksum; whatever `check` says is replaced."""
    message.ClearField("check")
    data = message.SerializeToString()
    return data + _TAG + _checksum(message, data).to_bytes(4, "little")


def decode_up(data: bytes) -> pb.Up:
    """Raises Corrupt for bytes that are no message, or another one than was sent."""
    up: pb.Up = _checked(pb.Up(), data)
    return up


def decode_down(data: bytes) -> pb.Down | Corrupt:
    """The error is given and not raised: gRPC would log it, and pass on nothing."""
    try:
        down: pb.Down = _checked(pb.Down(), data)
        return down
    except Corrupt as error:
        return error


def _checked(message: Any, data: bytes) -> Any:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise Corrupt("what came is no message, or it was damaged on its way; send it again") from None
    if message.HasField("check"):
        check, before = message.check, memoryview(data)[:-_CHECK_BYTES]
        message.ClearField("check")
        if data[-_CHECK_BYTES:-4] != _TAG or check != _checksum(message, before):
            raise Corrupt("a message does not have its checksum, so it was damaged on its way; send it again")
    return message


def _checksum(message: Any, data: bytes | memoryview) -> int:
    if isinstance(message, pb.Up) and message.HasField("chunk"):
        # Its data and, behind it, the CRC of that.
        return crc32(memoryview(data)[: max(0, len(data) - len(message.chunk.data) - _CHECK_BYTES)])
    return crc32(data)


def checked_stub(channel: grpc.aio.Channel) -> pb_grpc.InferenceStub:
    """As the generated one, with checksums on the stream."""
    stub = pb_grpc.InferenceStub(channel)
    stub.Stream = channel.stream_stream(_METHOD, request_serializer=encode, response_deserializer=decode_down)
    return stub


def add_checked_servicer(servicer: pb_grpc.InferenceServicer, server: Any) -> None:
    """As the generated function, with checksums on the stream."""
    pb_grpc.add_InferenceServicer_to_server(servicer, _WithChecks(server))


class _WithChecks:
    """Hands the methods on to a server, the stream with other coders."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same methods, which gRPC looks for among the registered ones first."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        stream = handlers["Stream"]._replace(request_deserializer=decode_up, response_serializer=encode)
        changed = {**handlers, "Stream": stream}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, changed),))
        self._server.add_registered_method_handlers(service, changed)
