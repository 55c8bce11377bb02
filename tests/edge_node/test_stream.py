"""One request's end is its own: the stream and what else is open on it go on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from edge_node.stream import CloudStream
from wire.errors import Unavailable
from wire.v1 import inference_pb2 as pb


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
