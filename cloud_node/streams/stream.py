"""One edge's stream: reads what comes up, knows which requests are on it, and says what goes down.

Requests are not its own (`requests`): when it is lost they go on. A fault of the stream itself (no Hello,
an unknown message) ends the stream, and what is on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import replace

from cloud_node.access.callers import ANYONE, Caller
from cloud_node.asked.sequence import TextDelta
from cloud_node.asked.tenants import Peer
from cloud_node.engine.load import Load, Loads, has_changed_much
from cloud_node.streams.hello import hear_hello
from cloud_node.streams.host import Host
from cloud_node.streams.messages import load_message, welcome_message
from cloud_node.streams.opened import OpenRequest
from cloud_node.streams.outbox import Outbox
from cloud_node.streams.requests import OpenRequests
from wire.errors import (
    Cancelled,
    CleaveError,
    Corrupt,
    Denied,
    MalformedMessage,
    Overloaded,
    Unavailable,
    to_failed,
)
from wire.v1 import inference_pb2 as pb


class EdgeStream:
    """The state of one stream. All methods run on the loop; `close` leaves nothing of it behind."""

    def __init__(
        self, host: Host, requests: OpenRequests, caller: Caller = ANYONE, *, is_draining: bool = False
    ) -> None:
        self._host = host
        self._requests = requests
        self._caller = caller
        self._peer = Peer(caller.tenant())
        self._on: dict[str, OpenRequest] = {}  # the requests that are on this stream
        self._is_draining = is_draining
        self._outbox = Outbox()
        self._has_ended = False
        self._is_closed = False
        self._is_in_step = False  # of a request's, by what its edge has said
        self._num_sent = 0  # messages down
        self._num_heard = 0  # and up
        self._num_pongs = 0  # that wait to go down
        self._is_welcome = False
        self._told = Load()
        self._heard_s = 0.0  # when something was last heard, or asked and answered; on the loop's clock
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def num_open(self) -> int:
        return len(self._on)

    async def run(self, messages: AsyncIterator[pb.Up]) -> AsyncGenerator[pb.Down, None]:
        """Everything that goes down this stream; raises a CleaveError where the stream itself is at fault."""
        reader = asyncio.create_task(self._read(messages))
        # What it fails with is told to a peer that is still there; of one that has gone nothing fills the log.
        reader.add_done_callback(lambda task: task.cancelled() or task.exception())
        watching = asyncio.create_task(self._watch())
        try:
            async for down in self._outbox.messages():
                if self._num_pongs:
                    self._count_for(down)
                self._num_sent += 1
                self._host.metrics.bytes_sent(down.ByteSize())
                yield down
            if reader.done():
                await reader
        finally:
            watching.cancel()
            self._is_closed = True
            if self._is_in_step:
                self._requests.adopt(reader)
            else:
                reader.cancel()
            self.close()

    def go_away(self, reason: str, drain_s: float) -> None:
        """No new request from now on."""
        self._is_draining = True
        self._host.metrics.go_away_said()
        self._outbox.put(pb.Down(go_away=pb.GoAway(reason=reason, drain_s=drain_s)))

    def finish(self, error: CleaveError) -> None:
        """The cloud closes: what is still open ends with `error`, and then the stream."""
        self._end_all(error)
        self._end()

    def close(self) -> None:
        """The edge has gone. What it had open goes on where it can come back to it, and ends elsewhere."""
        self._detach_all(Cancelled("the edge closed its stream"))

    def _detach_all(self, error: CleaveError) -> None:
        for opened in list(self._on.values()):
            self._requests.detach(opened, error)

    def put(self, down: pb.Down, *, is_urgent: bool = True) -> None:
        """A message of one of its requests."""
        self._outbox.put(down, is_urgent=is_urgent)

    def put_delta(self, request_id: str, delta: TextDelta) -> None:
        self._outbox.put_delta(request_id, delta)

    def left(self, request_id: str) -> None:
        """One of its requests is over, or goes on elsewhere."""
        self._on.pop(request_id, None)
        self._heard_s = asyncio.get_running_loop().time()
        self._close_if_done()

    def hear_load(self, loads: Loads) -> None:
        """Tells its edge of its tenant's, if that is news to it, if it reads, and if it may still ask."""
        load = loads.of(self._peer.tenant.name)
        if self._is_welcome and has_changed_much(self._told, load) and self._outbox.has_room:
            with suppress(Denied):  # its token has ended
                self._caller.tenant()
                self._told = load
                self._outbox.put(load_message(load))

    async def _read(self, messages: AsyncIterator[pb.Up]) -> None:
        try:
            await self._welcome(messages)
            self._num_heard = 1
            async for up in messages:
                self._heard_s = asyncio.get_running_loop().time()
                self._is_in_step = True
                num_bytes = await self._take(up)
                self._is_in_step = False
                if self._is_closed:
                    return
                self._num_heard += 1
                if not self._outbox.has_room:
                    await self._outbox.room()
                if num_bytes:
                    await self._hold_back(num_bytes)
            # A stream that is lost ends like one that the edge has ended.
            for opened in [one for one in self._on.values() if one.uploads is not None]:
                error = MalformedMessage("the edge ended its stream before the upload was whole")
                self._requests.detach(opened, error)
        except CleaveError as error:
            if isinstance(error, Corrupt):
                self._detach_all(error)  # the link is at fault, and no request: all may go on elsewhere
            self._end_all(error)
            self._outbox.put(pb.Down(failed=to_failed("", error)))
            raise
        finally:
            self._end()

    async def _welcome(self, messages: AsyncIterator[pb.Up]) -> None:
        hello = await hear_hello(messages)
        if self._is_draining:
            raise _closing()
        self._peer = replace(self._peer, edge_id=hello.edge_id)
        self._outbox.makes_batches = hello.takes_batches
        self._heard_s = asyncio.get_running_loop().time()
        self._outbox.put(welcome_message(self._host.bounds, self._host.server_version))
        self._is_welcome = True

    def _require_all(self, ping: pb.Ping) -> None:
        """Raises Corrupt where messages before it are missing: a damaged frame may be dropped whole."""
        if ping.sent_messages and ping.sent_messages != self._num_heard:
            raise Corrupt(
                f"{ping.sent_messages} messages went up this stream, and {self._num_heard} came; open it again"
            )

    def _count_for(self, down: pb.Down) -> None:
        """Its Pongs say how many messages went down before this one."""
        for one in down.batch.downs or (down,):
            if one.HasField("pong"):
                one.pong.sent_messages = self._num_sent
                self._num_pongs -= 1

    async def _take(self, up: pb.Up) -> int:
        """Returns the bytes of payloads that came. What it waits for are steps of requests."""
        match up.WhichOneof("message"):
            case "open":
                return await self._open(up.open)
            case "chunk":
                data = up.chunk.data  # which protobuf copies at every look
                # Of none where it failed, was cancelled, or was found in the cache while this chunk was on its way.
                if (opened := self._on.get(up.chunk.request_id)) is not None:
                    await self._requests.add(opened, up.chunk, data)
                return len(data)
            case "cancel":
                if (opened := self._on.get(up.cancel.request_id)) is not None:
                    self._requests.end(opened, Cancelled("the edge cancelled the request"))
            case "ping":
                self._require_all(up.ping)
                pong = pb.Pong(nonce=up.ping.nonce, server_time_s=time.monotonic())
                self._num_pongs += 1
                self._outbox.put(pb.Down(pong=pong))
            case other:
                raise MalformedMessage(
                    f"an edge sends Open, Chunk, Cancel or Ping after its Hello, not {other}"
                )
        return 0

    async def _open(self, message: pb.Open) -> int:
        """Returns the bytes of payloads in it."""
        if not message.request_id:
            # Its Failed would say that the stream ends.
            raise MalformedMessage("an Open has no request id, so that nothing can be said of it")
        if message.request_id in self._on:
            raise MalformedMessage("an Open has the id of a request that is open; choose a new one")
        # Protobuf copies a payload at every look.
        inline_bytes = [len(item.payload) for item in message.inputs[: self._host.bounds.limits.max_inputs]]
        num_bytes = sum(inline_bytes)
        try:
            self._require_room()
            # Asked again: tokens end, and limits change, while a stream lasts.
            self._peer = replace(self._peer, tenant=self._caller.tenant())
            opened, is_known = self._requests.accept(message, inline_bytes, self._peer)
        except CleaveError as error:
            self._requests.refuse(message.request_id, self, error)
            return num_bytes
        self._on[message.request_id] = opened
        self.idle.clear()
        if is_known:
            self._requests.resume(opened, message, self)
        else:
            await self._requests.start(opened, message, self)
        return num_bytes

    def _require_room(self) -> None:
        if self._is_draining:
            raise _closing()
        if len(self._on) >= (most := self._host.bounds.limits.max_open_requests):
            raise Overloaded(f"this stream has {most} open requests, which is its limit", retry_after_s=1.0)

    async def _hold_back(self, num_bytes: int) -> None:
        """Reads no more while the tenant sends faster than it may: what it has on its way fills, and it waits."""
        pause_s = self._host.quotas.received(self._peer.tenant.name, num_bytes, time.monotonic())
        if pause_s:
            for opened in self._on.values():
                if opened.uploads is not None:
                    opened.uploads.excuse(pause_s)
            await asyncio.sleep(pause_s)

    async def _watch(self) -> None:
        """Ends the stream once it has carried nothing, and no request was on it, for `stream_idle_s`."""
        loop, idle_s = asyncio.get_running_loop(), self._host.bounds.limits.stream_idle_s
        self._heard_s = loop.time()
        while (left_s := self._heard_s + idle_s - loop.time()) > 0:
            await asyncio.sleep(left_s)
            await self.idle.wait()
        self.go_away(f"nothing was asked here for {idle_s:g} s", 0.0)
        self._end()

    def _end_all(self, error: CleaveError) -> None:
        for opened in list(self._on.values()):
            self._requests.end(opened, error)

    def _end(self) -> None:
        """Nothing comes up any more: the stream ends with the last of its requests."""
        self._has_ended = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._on:
            return
        self.idle.set()
        if self._has_ended:
            self._outbox.end()


def _closing() -> Unavailable:
    return Unavailable("this cloud is closing; ask again elsewhere or later", retry_after_s=5.0)
