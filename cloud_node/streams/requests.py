"""All requests that are open on this cloud, whatever streams they are on: each from its Open to its Done or Failed.

A request is looked up at its Open; where the cloud holds too little it is *uploading* until its payloads are whole;
then it waits for its answer (`answering`). When its stream is lost it goes on, and waits for its edge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import replace

from cloud_node.asked.request import Request, parse_open
from cloud_node.asked.sequence import Embeddings, Event, Finished, StepTimes, TextDelta
from cloud_node.asked.tenants import Peer
from cloud_node.streams.answering import Answering
from cloud_node.streams.detached import Detached
from cloud_node.streams.embedding import use_embeddings
from cloud_node.streams.endings import tell_done, tell_failed, tell_refused
from cloud_node.streams.host import Host, Hosted
from cloud_node.streams.messages import ack_message, done_message, need_message
from cloud_node.streams.opened import Line, OpenRequest, RequestKey
from cloud_node.streams.upload import Uploads
from cloud_node.telemetry.log_lines import about
from wire.errors import Cancelled, CleaveError, Internal, MalformedMessage, to_failed
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)


class OpenRequests:
    """All methods run on the loop. What is said of a request is said on its line."""

    def __init__(self, host: Host, max_detached: int) -> None:
        self._host = host
        self._limits = host.bounds.limits
        self._answering = {
            version: Answering(host.cache, version.flights, version.served, host.held)
            for hosted in host.models.values()
            for version in hosted.versions
        }
        self._all: set[OpenRequest] = set()  # those that are not over
        self._resumable: dict[RequestKey, OpenRequest] = {}
        self._detached = Detached(max_detached, self._limits.resume_s, self._drop)
        self._embedding: set[asyncio.Task[None]] = set()
        self._adopted: set[asyncio.Task[None]] = set()

    @property
    def num_open(self) -> int:
        return len(self._all)

    @property
    def num_detached(self) -> int:
        """Of edges that are away; answers that wait for them among these."""
        return len(self._detached)

    def accept(self, message: pb.Open, inline_bytes: list[int], peer: Peer) -> tuple[OpenRequest, bool]:
        """The request that an Open asks for, and whether it is one that was open before.

        `inline_bytes` are those of its payloads. Raises what speaks against it.
        """
        key = RequestKey(peer.tenant.name, peer.edge_id, message.request_id)
        known = self._resumable.get(key)
        if known is None:
            self._host.metrics.request_received()
            self._host.quotas.admit(peer.tenant, time.monotonic())
            if message.HasField("resume"):
                self._host.metrics.request_resumed(is_found=False)
        self._host.metrics.bytes_received(sum(inline_bytes))
        hosted = self._hosted(message, peer, known)
        request = parse_open(message, hosted.served, self._host.bounds, peer.tenant)
        if known is not None:
            _require_same(known, message, hosted, _as_asked(request, known))
            return known, True
        opened = OpenRequest(
            key, hosted, request, request, self._hear,
            received_bytes=inline_bytes,
            opened_s=(now_s := time.monotonic()), ready_s=now_s,
        )  # fmt: skip
        opened.deadline = asyncio.get_running_loop().call_later(request.deadline_s, self._expire, opened)
        self._all.add(opened)
        if peer.edge_id:
            self._resumable[key] = opened
        return opened, False

    async def start(self, opened: OpenRequest, message: pb.Open, line: Line) -> None:
        """Looks it up, and says what it needs."""
        opened.line = line
        await self._guarded(opened, self._start(opened, message))

    def resume(self, opened: OpenRequest, message: pb.Open, line: Line) -> None:
        """Goes on with it on this line, after what its edge has."""
        self._host.metrics.request_resumed(is_found=True)
        self._detached.take_back(opened)
        opened.go_on(line, message.resume.received_tokens)
        if opened.is_over:
            opened.say_ending(*opened.ending)
            self._resumable.pop(opened.key, None)

    async def add(self, opened: OpenRequest, chunk: pb.Chunk, data: bytes) -> None:
        """Takes a piece of a payload, the chunk's data; one that is not needed any more is dropped."""
        self._host.metrics.bytes_received(len(data))
        uploads = opened.uploads
        if uploads is None:
            return
        try:
            self._add(opened, uploads, chunk, data)
        except CleaveError as error:
            self.end(opened, error)
            return
        if uploads.is_complete:
            await self._guarded(opened, self._advance(opened, uploads))
        else:
            uploads.expect()

    def end(self, opened: OpenRequest, error: CleaveError) -> None:
        """Ends an open request with `error`, wherever it is; one that is over stays so."""
        if opened.is_over:
            return
        self._answering[opened.hosted].leave(opened, error)
        self._say_failed(opened, error)

    def detach(self, opened: OpenRequest, error: CleaveError) -> None:
        """Its stream is lost. It goes on if its edge can come back to it, and else it ends with `error`."""
        if opened.key not in self._resumable:
            self.end(opened, error)
            return
        opened.leave_line()
        if opened.uploads is not None:
            opened.uploads.close()
        self._detached.keep(opened)

    def adopt(self, reader: asyncio.Task[None]) -> None:
        """Of a stream that was lost while its reader was in a request's step: that goes on, and ends with the step.

        The edge may be back already, on another stream, and waits for what comes of it.
        """
        self._adopted.add(reader)
        reader.add_done_callback(self._adopted.discard)

    def refuse(self, request_id: str, line: Line, error: CleaveError) -> None:
        """Says why an Open is no request."""
        tell_refused(self._host, request_id, error)
        line.put(pb.Down(failed=to_failed(request_id[:64], error)))

    def close(self) -> None:
        """Nobody comes back: what is left ends."""
        self._detached.clear()
        for task in (*self._embedding, *self._adopted):
            task.cancel()

    def _hosted(self, message: pb.Open, peer: Peer, known: OpenRequest | None) -> Hosted:
        """The bundle that is asked: where none is named, a rollout must not move a request that goes on."""
        if known is not None and not message.bundle_digest and known.hosted.served.name == message.model:
            return known.hosted
        return self._host.find(message.model, message.bundle_digest, peer.edge_id)

    async def _guarded(self, opened: OpenRequest, taken: Awaitable[None]) -> None:
        """One request's failure is its own message; the stream and the other requests go on."""
        try:
            await taken
        except CleaveError as error:
            self.end(opened, error)
        except Exception as unknown:
            _log.error("a step of a request failed", exc_info=unknown, extra=about(opened.request))
            self.end(
                opened,
                Internal(f"unforeseen {type(unknown).__name__} in the cloud; its log says more, ask again"),
            )

    async def _start(self, opened: OpenRequest, message: pb.Open) -> None:
        line = opened.line
        is_continued = message.resume.received_tokens > 0
        if await self._answering[opened.hosted].without_payloads(opened, is_continued=is_continued):
            return
        is_resumed = opened.line is not line  # meanwhile: nothing follows by itself
        request = opened.request
        needed = [(index, request.inputs[index]) for index in opened.missing]
        opened.uploads = uploads = Uploads(needed, self._limits, lambda error: self.end(opened, error))
        for index, item in needed:
            if payload := message.inputs[index].payload:
                uploads.add(index, 0, payload, item.crc32)
                # It came with the Open, whose time tells nothing of the link: it may wait for what comes next.
                self._acknowledge(opened, uploads, index, is_urgent=False)
            elif item.total_bytes and (is_resumed or not message.inputs[index].follows):
                opened.say(need_message(request.request_id, index))
        await self._advance(opened, uploads)

    def _add(self, opened: OpenRequest, uploads: Uploads, chunk: pb.Chunk, data: bytes) -> None:
        num_inputs = len(opened.request.inputs)
        if chunk.input_index >= num_inputs:
            raise MalformedMessage(
                f"a chunk is for input {chunk.input_index}, and the request has {num_inputs}"
            )
        if chunk.input_index not in uploads:
            return
        uploads.add(chunk.input_index, chunk.offset, data, chunk.crc32)
        # The last one's may wait a moment for what comes next: it says itself when the payload had come.
        self._acknowledge(opened, uploads, chunk.input_index, is_urgent=not uploads.is_complete)

    def _acknowledge(
        self, opened: OpenRequest, uploads: Uploads, index: int, *, is_urgent: bool = True
    ) -> None:
        """After a piece: says how much of its input has come, from time to time."""
        opened.received_bytes[index] = received = uploads.received_bytes(index)
        if uploads.take_acknowledgement(index):
            ack = ack_message(opened.request.request_id, index, received, time.monotonic())
            opened.say(ack, is_urgent=is_urgent)

    async def _advance(self, opened: OpenRequest, uploads: Uploads) -> None:
        """Goes on when all has come, else waits for the next piece."""
        if not uploads.is_complete:
            if opened.line is not None:
                uploads.expect()
            return
        uploads.close()
        opened.uploads = None
        opened.payloads.update(uploads.payloads())
        await self._answering[opened.hosted].with_payloads(opened)

    def _hear(self, opened: OpenRequest, event: Event) -> None:
        if opened.is_over:
            return
        match event:
            case TextDelta():
                now_s = time.monotonic()
                self._host.quotas.told(opened.key.tenant, event.num_tokens, now_s)
                opened.say_delta(event, now_s)
            case Finished():
                if event.is_repeated:
                    opened.cache = pb.CACHE_ANSWER
                self._say_done(opened, event)
            case Embeddings():
                task = asyncio.get_running_loop().create_task(self._embedded(opened, event))
                self._embedding.add(task)
                task.add_done_callback(self._embedding.discard)
            case CleaveError():
                self._say_failed(opened, event)

    async def _embedded(self, opened: OpenRequest, embeddings: Embeddings) -> None:
        """What was asked of the embeddings, unless the request ends before it is done."""
        digest = opened.hosted.served.bundle_digest
        outcome = await use_embeddings(opened.request, digest, embeddings.vectors, self._host.indexes)
        if isinstance(outcome, CleaveError):
            self.end(opened, outcome)
        elif not opened.is_over:
            self._say_done(opened, Finished(None, 0, 0, embeddings.times), outcome)

    def _expire(self, opened: OpenRequest) -> None:
        self.end(opened, opened.expired())

    def _drop(self, opened: OpenRequest) -> None:
        """Its edge did not come back."""
        self._resumable.pop(opened.key, None)
        self.end(opened, Cancelled(f"the edge did not come back within {self._limits.resume_s:g} s"))

    def _say_done(self, opened: OpenRequest, finished: Finished, *before: pb.Down) -> None:
        is_repeated = opened.cache == pb.CACHE_ANSWER
        times = replace(
            StepTimes() if is_repeated else finished.times,
            total_s=time.monotonic() - opened.ready_s,
            cache_s=opened.cache_s + finished.times.cache_s,
        )
        self._over(opened, *before, done_message(opened.request.request_id, finished, opened.cache, times))
        tell_done(self._host, opened, finished, times)

    def _say_failed(self, opened: OpenRequest, error: CleaveError) -> None:
        tell_failed(self._host, opened, error)
        self._over(opened, pb.Down(failed=to_failed(opened.request.request_id, error)))

    def _over(self, opened: OpenRequest, *downs: pb.Down) -> None:
        """The last words; kept for an edge that is away, until its time is over."""
        self._all.discard(opened)
        if opened.line is not None:
            self._resumable.pop(opened.key, None)
        opened.say_ending(*downs)


def _as_asked(request: Request, known: OpenRequest) -> Request:
    """But for what may differ where an Open comes again."""
    return replace(request, deadline_s=known.asked.deadline_s, trace=known.asked.trace)


def _require_same(known: OpenRequest, message: pb.Open, hosted: Hosted, request: object) -> None:
    if not message.HasField("resume"):
        raise MalformedMessage("an Open has the id of a request that is open; choose a new one")
    if known.hosted is not hosted or known.asked != request:
        raise MalformedMessage("an Open goes on with a request, and asks for something else; choose a new id")
