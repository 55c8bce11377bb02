"""One request's end is its own: the stream and what else is open on it go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from edge_node.stream import CloudStream
from wire.checked import add_checked_servicer, checked_stub
from wire.errors import Cancelled, Corrupt, Unavailable
from wire.limits import PROTOCOL_VERSION, Limits
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc


class SlowCall:
    """As gRPC's: takes one message at a time, and a write that is cancelled ends the whole call."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.is_writing = asyncio.Event()
        self.gate = asyncio.Event()
        self.has_ended = False
        self._is_busy = False

    async def write(self, up: pb.Up) -> None:
        if self.has_ended:
            raise asyncio.InvalidStateError
        assert not self._is_busy
        self._is_busy = True
        self.is_writing.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.has_ended = True
            raise
        self._is_busy = False
        self.taken.append(up.cancel.request_id)


def _message(request_id: str) -> pb.Up:
    return pb.Up(cancel=pb.Cancel(request_id=request_id))


def test_who_leaves_in_the_middle_of_a_message_ends_no_other() -> None:
    async def scenario() -> None:
        call = SlowCall()
        stream = CloudStream(call, "cloud:1")
        leaving = asyncio.create_task(stream.send(_message("leaving")))
        await call.is_writing.wait()
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        staying = asyncio.create_task(stream.send(_message("staying")))
        call.gate.set()
        await staying
        assert call.taken == ["leaving", "staying"]
        assert not call.has_ended
        assert not stream.is_lost

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_stream_that_takes_no_message_is_lost_at_once() -> None:
    async def scenario() -> None:
        call = SlowCall()
        call.has_ended = True
        stream = CloudStream(call, "cloud:1")
        with pytest.raises(Unavailable, match="is lost"):
            await stream.send(_message("any"))
        assert stream.is_lost

    asyncio.run(asyncio.wait_for(scenario(), 10))


class DeafCloud(pb_grpc.InferenceServicer):
    """Welcomes an edge, and reads nothing more."""

    async def Stream(self, request_iterator: AsyncIterator[pb.Up], context: Any) -> AsyncIterator[pb.Down]:
        await anext(request_iterator)
        yield pb.Down(welcome=pb.Welcome(protocol_version=PROTOCOL_VERSION, limits=Limits().to_wire()))
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def blocked_upload() -> AsyncIterator[tuple[CloudStream, asyncio.Task[None]]]:
    """A stream on which more was sent than flow control lets through."""
    server = grpc.aio.server()
    add_checked_servicer(DeafCloud(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = await CloudStream.open(checked_stub(channel), "cloud:1", 10.0, "", ())
        chunk = pb.Chunk(request_id="r", data=bytes(1 << 20))

        async def upload() -> None:
            for _ in range(64):
                await stream.send(pb.Up(chunk=chunk))

        uploading = asyncio.create_task(upload())
        before = -1
        while stream._num_sent != before:  # as long as anything goes through
            before = stream._num_sent
            await asyncio.wait([uploading], timeout=0.2)
        assert not uploading.done()
        yield stream, uploading
        await stream.close()
    await server.stop(0)


@pytest.mark.parametrize("ends", ["broken off", "closed"])
def test_upload_that_is_held_up_hears_why_its_stream_ended(ends: str) -> None:
    """gRPC says that the write was cancelled, as if its caller had been."""

    async def scenario() -> None:
        async with blocked_upload() as (stream, uploading):
            if ends == "closed":
                stream.subscribe("r")
                await stream.close()
            else:
                stream.break_off(Corrupt("a message is missing"))
            with pytest.raises(Cancelled if ends == "closed" else Unavailable):
                await uploading

    asyncio.run(asyncio.wait_for(scenario(), 30))
