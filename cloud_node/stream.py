"""One edge's stream: reads what comes up, keeps the requests that are open, and says what goes down.

A request is looked up at its Open; where the cloud holds too little it is *uploading* until its payload is whole;
then it waits for its answer (cloud_node/answering.py) until one Done or Failed. A fault of the stream itself (no
Hello, an unknown message) ends the stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from dataclasses import dataclass, field

from cloud_node.answering import Answering, OpenRequest
from cloud_node.cache import Cache
from cloud_node.engine import Engine
from cloud_node.flights import Flights
from cloud_node.messages import ack_message, done_message, welcome_message
from cloud_node.metrics import CacheUse, Metrics
from cloud_node.outbox import Outbox
from cloud_node.request import Bounds, Request, Served, parse_open
from cloud_node.sequence import Event, Finished, StepTimes, TextDelta
from cloud_node.upload import Upload
from wire import limits
from wire.errors import (
    Cancelled,
    CleaveError,
    DeadlineExceeded,
    IncompatibleBundle,
    MalformedMessage,
    Overloaded,
    Unavailable,
    to_failed,
)
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Host:
    """What the streams of one cloud share."""

    engine: Engine
    served: Served
    bounds: Bounds
    server_version: str
    cache: Cache
    flights: Flights
    metrics: Metrics = field(default_factory=Metrics)


class EdgeStream:
    """The state of one stream. All methods run on the loop; `close` leaves nothing of it behind."""

    def __init__(self, host: Host, *, is_draining: bool = False) -> None:
        self._host = host
        self._open: dict[str, OpenRequest] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._is_draining = is_draining
        self._outbox = Outbox()
        self._answering = Answering(host.cache, host.flights, host.served, self._outbox.put)
        self._has_ended = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def num_open(self) -> int:
        return len(self._open)

    async def run(self, messages: AsyncIterator[pb.Up]) -> AsyncGenerator[pb.Down, None]:
        """Everything that goes down this stream; raises a CleaveError where the stream itself is at fault."""
        reader = asyncio.create_task(self._read(messages))
        try:
            async for down in self._outbox.messages():
                self._host.metrics.bytes_sent(down.ByteSize())
                yield down
            if reader.done():
                await reader
        finally:
            reader.cancel()
            self.close()

    def go_away(self, reason: str, drain_s: float) -> None:
        """No new request from now on."""
        self._is_draining = True
        self._outbox.put(pb.Down(go_away=pb.GoAway(reason=reason, drain_s=drain_s)))

    def finish(self, error: CleaveError) -> None:
        """The cloud closes: what is still open ends with `error`, and then the stream."""
        self._end_all(error)
        self._has_ended = True
        self._close_if_done()

    def close(self) -> None:
        """The edge has gone: everything that it had open ends."""
        self._end_all(Cancelled("the edge closed its stream"))

    async def _read(self, messages: AsyncIterator[pb.Up]) -> None:
        try:
            await self._welcome(messages)
            async for up in messages:
                await self._take(up)
                await self._outbox.room()
            for request_id in [name for name, opened in self._open.items() if opened.upload is not None]:
                error = MalformedMessage("the edge ended its stream before the upload was whole")
                self._end(request_id, error)
        except CleaveError as error:
            self._end_all(error)
            self._outbox.put(pb.Down(failed=to_failed("", error)))
            raise
        finally:
            self._has_ended = True
            self._close_if_done()

    async def _welcome(self, messages: AsyncIterator[pb.Up]) -> None:
        try:
            first = await asyncio.wait_for(anext(messages, None), HELLO_TIMEOUT_S)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no Hello came within {HELLO_TIMEOUT_S:g} s of the stream's start"
            ) from None
        if first is None or first.WhichOneof("message") != "hello":
            raise MalformedMessage("the first message of a stream is Hello, and this one was not")
        if first.hello.protocol_version != limits.PROTOCOL_VERSION:
            raise IncompatibleBundle(
                f"the edge speaks protocol {first.hello.protocol_version}, and this cloud speaks "
                f"{limits.PROTOCOL_VERSION}; install the same version of cleave on both"
            )
        if self._is_draining:
            raise _closing()
        self._outbox.put(welcome_message(self._host.bounds, self._host.server_version))

    async def _take(self, up: pb.Up) -> None:
        match up.WhichOneof("message"):
            case "open":
                if up.open.request_id in self._open:
                    raise MalformedMessage("an Open has the id of a request that is open; choose a new one")
                await self._guarded(up.open.request_id, self._start(up.open))
            case "chunk":
                await self._guarded(up.chunk.request_id, self._add(up.chunk))
            case "cancel":
                self._end(up.cancel.request_id, Cancelled("the edge cancelled the request"))
            case "ping":
                pong = pb.Pong(nonce=up.ping.nonce, server_time_s=time.monotonic())
                self._outbox.put(pb.Down(pong=pong))
            case other:
                raise MalformedMessage(
                    f"an edge sends Open, Chunk, Cancel or Ping after its Hello, not {other}"
                )

    async def _guarded(self, request_id: str, taken: Awaitable[None]) -> None:
        """One request's failure is its own message; the stream and the other requests go on."""
        try:
            await taken
        except CleaveError as error:
            if request_id in self._open:
                self._end(request_id, error)
            else:
                self._say_failed(request_id, error)

    async def _start(self, message: pb.Open) -> None:
        opened = self._opened(message)
        if await self._answering.without_payload(opened):
            return
        request, item = opened.request, message.inputs[0]
        opened.upload = Upload(
            request, self._host.bounds.limits, lambda error: self._end(request.request_id, error)
        )
        if item.payload or not item.total_bytes:
            if item.payload:
                opened.upload.add(0, item.payload, item.crc32)
            await self._advance(opened, opened.upload)
            return
        self._outbox.put(pb.Down(need=pb.Need(request_id=request.request_id)))
        opened.upload.expect()

    def _opened(self, message: pb.Open) -> OpenRequest:
        """A new request of this stream; raises what speaks against it."""
        self._host.metrics.request_received()
        self._host.metrics.bytes_received(sum(len(item.payload) for item in message.inputs))
        if self._is_draining:
            raise _closing()
        if len(self._open) >= (most := self._host.bounds.limits.max_open_requests):
            raise Overloaded(f"this stream has {most} open requests, which is its limit", retry_after_s=1.0)
        request = parse_open(message, self._host.served, self._host.bounds)
        request_id = request.request_id
        opened = OpenRequest(
            request,
            self._hear,
            received_bytes=len(message.inputs[0].payload),
            ready_s=time.monotonic(),
        )
        self._open[request_id] = opened
        self._deadlines[request_id] = asyncio.get_running_loop().call_later(
            request.deadline_s, self._end, request_id, _expired(request)
        )
        self.idle.clear()
        return opened

    async def _add(self, chunk: pb.Chunk) -> None:
        self._host.metrics.bytes_received(len(chunk.data))
        opened = self._open.get(chunk.request_id)
        if opened is None or opened.upload is None:
            # It failed, was cancelled, or was found in the cache while this chunk was on its way.
            return
        if chunk.input_index != 0:
            raise MalformedMessage(
                f"a chunk is for input {chunk.input_index}, and the request has one input, 0"
            )
        opened.upload.add(chunk.offset, chunk.data, chunk.crc32)
        opened.upload.expect()
        await self._advance(opened, opened.upload)

    async def _advance(self, opened: OpenRequest, upload: Upload) -> None:
        """After a piece: says how much has come, and goes on when that is all."""
        opened.received_bytes = upload.received_bytes
        if upload.take_acknowledgement():
            ack = ack_message(opened.request.request_id, upload.received_bytes, time.monotonic())
            self._outbox.put(ack)
        if upload.is_complete:
            payload = upload.payload()
            upload.close()
            opened.upload = None
            await self._answering.with_payload(opened, payload)

    def _hear(self, opened: OpenRequest, event: Event) -> None:
        if opened.is_over:
            return
        request_id = opened.request.request_id
        match event:
            case TextDelta():
                opened.has_text(time.monotonic())
                self._outbox.put_delta(request_id, event)
            case Finished():
                self._forget(request_id)
                self._say_done(opened, event)
            case CleaveError():
                self._forget(request_id)
                self._say_failed(request_id, event, opened.cache_use)

    def _end(self, request_id: str, error: CleaveError) -> None:
        """Ends an open request with `error`, wherever it is; an unknown one has ended already."""
        opened = self._forget(request_id)
        if opened is None:
            return
        self._answering.leave(opened, error)
        self._say_failed(request_id, error, opened.cache_use)

    def _end_all(self, error: CleaveError) -> None:
        for request_id in list(self._open):
            self._end(request_id, error)

    def _forget(self, request_id: str) -> OpenRequest | None:
        opened = self._open.pop(request_id, None)
        if opened is not None:
            opened.is_over = True
            self._deadlines.pop(request_id).cancel()
            if opened.upload is not None:
                opened.upload.close()
        return opened

    def _say_done(self, opened: OpenRequest, finished: Finished) -> None:
        is_repeated = opened.cache == pb.CACHE_ANSWER
        times = StepTimes(total_s=time.monotonic() - opened.ready_s) if is_repeated else finished.times
        request_id = opened.request.request_id
        self._outbox.put(done_message(request_id, finished, opened.cache, times))
        num_tokens, use = finished.generated_tokens, opened.cache_use
        self._host.metrics.request_ended("done", use)
        self._host.metrics.answered(times, finished.prompt_tokens, num_tokens, opened.ttft_s)
        _log.info("request %s done: %d tokens, %.3f s, %s", request_id, num_tokens, times.total_s, use)
        self._close_if_done()

    def _say_failed(self, request_id: str, error: CleaveError, cache: CacheUse = "miss") -> None:
        self._host.metrics.request_ended(error.code.name.lower(), cache)
        _log.info("request %s failed: %s", request_id[:64], error.code.name)
        self._outbox.put(pb.Down(failed=to_failed(request_id[:64], error)))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._open:
            return
        self.idle.set()
        if self._has_ended:
            self._outbox.end()


def _expired(request: Request) -> CleaveError:
    return DeadlineExceeded(
        f"the request took longer than its deadline of {request.deadline_s:g} s; allow more, or ask for less"
    )


def _closing() -> Unavailable:
    return Unavailable("this cloud is closing; ask again elsewhere or later", retry_after_s=5.0)
