"""One edge's stream: reads what comes up, keeps the requests that are open, and says what goes down.

A request is looked up at its Open; where the cloud holds too little it is *uploading* until its payloads are whole;
then it waits for its answer (cloud_node/answering.py) until one Done or Failed. A fault of the stream itself (no
Hello, an unknown message) ends the stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

from cloud_node.answering import Answering
from cloud_node.embedding import use_embeddings
from cloud_node.hello import hear_hello
from cloud_node.host import Host
from cloud_node.messages import ack_message, done_message, need_message, welcome_message
from cloud_node.metrics import CacheUse
from cloud_node.opened import OpenRequest
from cloud_node.outbox import Outbox
from cloud_node.request import parse_open
from cloud_node.sequence import Embeddings, Event, Finished, StepTimes, TextDelta
from cloud_node.upload import Uploads
from wire.errors import (
    Cancelled,
    CleaveError,
    MalformedMessage,
    Overloaded,
    Unavailable,
    to_failed,
)
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)


class EdgeStream:
    """The state of one stream. All methods run on the loop; `close` leaves nothing of it behind."""

    def __init__(self, host: Host, *, is_draining: bool = False) -> None:
        self._host = host
        self._open: dict[str, OpenRequest] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._is_draining = is_draining
        self._outbox = Outbox()
        self._answering = {
            name: Answering(host.cache, hosted.flights, hosted.served, self._outbox.put)
            for name, hosted in host.models.items()
        }
        self._embedding: set[asyncio.Task[None]] = set()
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
        for task in self._embedding:
            task.cancel()

    async def _read(self, messages: AsyncIterator[pb.Up]) -> None:
        try:
            await self._welcome(messages)
            async for up in messages:
                await self._take(up)
                await self._outbox.room()
            for request_id in [name for name, opened in self._open.items() if opened.uploads is not None]:
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
        await hear_hello(messages)
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
        if await self._answering[opened.model].without_payloads(opened):
            return
        request = opened.request
        needed = [(index, request.inputs[index]) for index in opened.missing]
        opened.uploads = uploads = Uploads(
            needed, self._host.bounds.limits, lambda error: self._end(request.request_id, error)
        )
        for index, item in needed:
            if payload := message.inputs[index].payload:
                uploads.add(index, 0, payload, item.crc32)
                self._acknowledge(opened, uploads, index)
            elif item.total_bytes:
                self._outbox.put(need_message(request.request_id, index))
        await self._advance(opened, uploads)

    def _opened(self, message: pb.Open) -> OpenRequest:
        """A new request of this stream; raises what speaks against it."""
        self._host.metrics.request_received()
        self._host.metrics.bytes_received(sum(len(item.payload) for item in message.inputs))
        if self._is_draining:
            raise _closing()
        if len(self._open) >= (most := self._host.bounds.limits.max_open_requests):
            raise Overloaded(f"this stream has {most} open requests, which is its limit", retry_after_s=1.0)
        hosted = self._host.find(message.model)
        request = parse_open(message, hosted.served, self._host.bounds)
        request_id = request.request_id
        opened = OpenRequest(
            request,
            message.model,
            self._hear,
            received_bytes=[len(item.payload) for item in message.inputs],
            ready_s=time.monotonic(),
        )
        self._open[request_id] = opened
        self._deadlines[request_id] = asyncio.get_running_loop().call_later(
            request.deadline_s, self._end, request_id, opened.expired()
        )
        self.idle.clear()
        return opened

    async def _add(self, chunk: pb.Chunk) -> None:
        self._host.metrics.bytes_received(len(chunk.data))
        opened = self._open.get(chunk.request_id)
        if opened is None or opened.uploads is None:
            # It failed, was cancelled, or was found in the cache while this chunk was on its way.
            return
        num_inputs = len(opened.request.inputs)
        if chunk.input_index >= num_inputs:
            raise MalformedMessage(
                f"a chunk is for input {chunk.input_index}, and the request has {num_inputs}"
            )
        if chunk.input_index not in opened.uploads:
            return
        opened.uploads.add(chunk.input_index, chunk.offset, chunk.data, chunk.crc32)
        self._acknowledge(opened, opened.uploads, chunk.input_index)
        await self._advance(opened, opened.uploads)

    def _acknowledge(self, opened: OpenRequest, uploads: Uploads, index: int) -> None:
        """After a piece: says how much of its input has come, from time to time."""
        opened.received_bytes[index] = received = uploads.received_bytes(index)
        if uploads.take_acknowledgement(index):
            self._outbox.put(ack_message(opened.request.request_id, index, received, time.monotonic()))

    async def _advance(self, opened: OpenRequest, uploads: Uploads) -> None:
        """Goes on when all has come, else waits for the next piece."""
        if not uploads.is_complete:
            uploads.expect()
            return
        uploads.close()
        opened.uploads = None
        opened.payloads.update(uploads.payloads())
        await self._answering[opened.model].with_payloads(opened)

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
            case Embeddings():
                task = asyncio.get_running_loop().create_task(self._embedded(opened, event))
                self._embedding.add(task)
                task.add_done_callback(self._embedding.discard)
            case CleaveError():
                self._forget(request_id)
                self._say_failed(request_id, event, opened.cache_use)

    async def _embedded(self, opened: OpenRequest, embeddings: Embeddings) -> None:
        """What was asked of the embeddings, unless the request ends before it is done."""
        request_id, digest = opened.request.request_id, self._host.find(opened.model).served.bundle_digest
        outcome = await use_embeddings(opened.request, digest, embeddings.vectors, self._host.indexes)
        if opened.is_over:
            return
        if isinstance(outcome, CleaveError):
            self._end(request_id, outcome)
            return
        self._forget(request_id)
        self._outbox.put(outcome)
        self._say_done(opened, Finished(None, 0, 0, embeddings.times))

    def _end(self, request_id: str, error: CleaveError) -> None:
        """Ends an open request with `error`, wherever it is; an unknown one has ended already."""
        opened = self._forget(request_id)
        if opened is None:
            return
        self._answering[opened.model].leave(opened, error)
        self._say_failed(request_id, error, opened.cache_use)

    def _end_all(self, error: CleaveError) -> None:
        for request_id in list(self._open):
            self._end(request_id, error)

    def _forget(self, request_id: str) -> OpenRequest | None:
        opened = self._open.pop(request_id, None)
        if opened is not None:
            opened.is_over = True
            self._deadlines.pop(request_id).cancel()
            if opened.uploads is not None:
                opened.uploads.close()
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


def _closing() -> Unavailable:
    return Unavailable("this cloud is closing; ask again elsewhere or later", retry_after_s=5.0)
