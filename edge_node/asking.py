"""One request from its Open to its Done, over as many streams as it takes: lost, sent again, never doubled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from edge_node.inbox import StreamLost
from edge_node.patience import Patience, Tries
from edge_node.replay import Replay
from edge_node.stream import CloudStream
from edge_node.tracing import UNTRACED, Milestones, Trace
from wire import limits
from wire.chunks import split
from wire.errors import (
    Cancelled,
    CleaveError,
    Corrupt,
    DeadlineExceeded,
    MalformedMessage,
    TooLarge,
    Unavailable,
)
from wire.v1 import inference_pb2 as pb

# The cloud itself says when a deadline is over; the edge says it where the cloud cannot be heard.
_LATE_S = 1.0
_LEAST_CHUNK_BYTES = 4096
# 0 would ask for the cloud's default.
_LEAST_DEADLINE_S = 0.001


@dataclass(slots=True)
class Sent:
    """Bytes that went up for one request, and how often it was sent again."""

    by_input: Counter[int] = field(default_factory=Counter)  # of each input's payload
    message_bytes: int = 0  # the payloads' among them
    num_resumed: int = 0
    trace: Trace = UNTRACED  # which hears where the time went

    @property
    def payload_bytes(self) -> int:
        return self.by_input.total()


class Link(Protocol):
    """What leads to a cloud."""

    address: str
    has_met: bool  # whether a cloud has answered there

    async def connected(self) -> CloudStream: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is kept until the end. `opening` has no payload inside and is never changed.

    With `hash_first` each payload waits for the cloud's Need; None: if they do not fit inside the Open, together.
    """

    opening: pb.Open
    payloads: Sequence[bytes]
    hash_first: bool | None = None


class Asking:
    """The state of one request on the edge; `downs` is its whole life."""

    def __init__(self, link: Link, question: Question, sent: Sent, patience: Patience) -> None:
        self._link = link
        self._question = question
        self._sent = sent
        deadline_s = question.opening.deadline_s
        self._ends_s = time.monotonic() + deadline_s if deadline_s else None
        self._tries = Tries(patience, self._ends_s)
        self._replay = Replay()
        self._milestones = Milestones(sent.trace, [len(payload) for payload in question.payloads])
        self._acknowledged = [0] * len(question.payloads)  # bytes of each input
        self._has_opened = False
        self._most_chunk = limits.MAX_CHUNK_BYTES

    @property
    def _request_id(self) -> str:
        return self._question.opening.request_id

    async def downs(self) -> AsyncGenerator[pb.Down, None]:
        """What the cloud says, each token once, Done last; raises the CleaveError that the request failed with."""
        while True:
            try:
                async with aclosing(self._on(await self._stream())) as downs:
                    async for down in downs:
                        yield down
                return
            except StreamLost as lost:
                wait_s = self._next(lost.error, is_lost=True)
            except CleaveError as error:
                wait_s = self._next(error, is_lost=False)
            await asyncio.sleep(wait_s)
            self._sent.num_resumed += 1

    def _next(self, error: CleaveError, *, is_lost: bool) -> float:
        """How long to wait until the next try; raises the error that there is none for."""
        if not self._link.has_met and error.retry_after_s is None:
            raise error  # nothing was ever sent: maybe the address is wrong
        # A link that is slow enough loses a chunk before it is whole: of a smaller one, something stays.
        self._most_chunk = max(_LEAST_CHUNK_BYTES, self._most_chunk // 2)
        return self._tries.wait_s(error, time.monotonic(), random.random(), is_lost=is_lost)

    async def _stream(self) -> CloudStream:
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._tries.left_s(time.monotonic())):
                stream = await self._link.connected()
            self._sent.trace.span("connect", began_s, time.perf_counter())
            return stream
        except TimeoutError:
            raise Unavailable(f"{self._link.address} could not be reached in time; ask again") from None
        except Cancelled:
            raise  # closed here
        except CleaveError as error:
            raise StreamLost(error) from error

    async def _on(self, stream: CloudStream) -> AsyncGenerator[pb.Down, None]:
        """As much of the request's life as this stream lasts. A request that is left early is cancelled."""
        inbox = stream.subscribe(self._request_id)
        late = self._watch_deadline(stream)
        is_over = False
        needed: set[int] = set()
        try:
            waits = await self._send_open(stream)
            while not is_over:
                down = await inbox.get()
                if not isinstance(down, pb.Down):
                    is_over = True
                    raise down
                kind = down.WhichOneof("message")
                if waits and kind == "need":
                    index = down.need.input_index
                    self._check_need(index, needed)
                    needed.add(index)
                    self._note_received(index, down.need.from_offset)
                    await self._upload(stream, index, down.need.from_offset)
                is_over = kind == "done"
                if (new := self._new_of(kind, down)) is not None:
                    self._milestones.hear(new, time.perf_counter())
                    yield new
        except Corrupt as error:
            if not is_over:  # a message is missing, and maybe others': it goes on, on another stream
                is_over = True
                stream.break_off(error)
            raise
        finally:
            if late is not None:
                late.cancel()
            stream.unsubscribe(self._request_id)
            if not is_over:
                with contextlib.suppress(CleaveError):
                    await stream.send(pb.Up(cancel=pb.Cancel(request_id=self._request_id)))

    def _new_of(self, kind: str | None, down: pb.Down) -> pb.Down | None:
        """What of a message the caller has not had yet; takes note of how far the request is."""
        if kind == "deltas":
            new = [delta for one in down.deltas.deltas if (delta := self._replay.new_of(one)) is not None]
            if not new:
                return None
            self._tries.note_progress()
            return pb.Down(deltas=pb.DeltaBatch(deltas=new))
        if kind == "ack" and down.ack.input_index < len(self._acknowledged):
            self._note_received(down.ack.input_index, down.ack.received_bytes)
        if kind == "done":
            self._replay.end(down.done.generated_tokens)
        return down

    def _note_received(self, index: int, said_bytes: int) -> None:
        # No more than there is: a cloud that says so again and again would have the edge try for ever.
        num_bytes = min(said_bytes, len(self._question.payloads[index]))
        if num_bytes > self._acknowledged[index]:
            self._acknowledged[index] = num_bytes
            self._tries.note_progress()

    def _watch_deadline(self, stream: CloudStream) -> asyncio.TimerHandle | None:
        if self._ends_s is None:
            return None
        left_s = self._ends_s - time.monotonic() + _LATE_S
        return asyncio.get_running_loop().call_later(
            left_s, stream.give_up, self._request_id, self._expired()
        )

    def _expired(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self._link.address} did not answer within the deadline of "
            f"{self._question.opening.deadline_s:g} s; allow more, or ask for less"
        )

    async def _send_open(self, stream: CloudStream) -> bool:
        """Sends the Open, and the payloads unless they wait for the cloud's Need; whether they do."""
        payloads, fits = (
            self._question.payloads,
            _fits_inside(stream, self._question.payloads, self._link.address),
        )
        wanted = self._question.hash_first
        is_resumed = self._has_opened
        waits = is_resumed or ((not fits) if wanted is None else wanted)
        opening = pb.Open()
        opening.CopyFrom(self._question.opening)
        if is_resumed:
            self._replay.resume()
            opening.resume.received_tokens = self._replay.num_tokens
            if self._ends_s is not None:
                opening.deadline_s = max(self._ends_s - time.monotonic(), _LEAST_DEADLINE_S)
        if fits and not waits:
            for index, payload in enumerate(payloads):
                opening.inputs[index].payload = payload
                self._sent.by_input[index] += len(payload)
        elif not waits:
            for item in opening.inputs:
                item.follows = True
        self._milestones.opened(time.perf_counter())
        self._has_opened = True
        await self._send(stream, pb.Up(open=opening))
        if not fits and not waits:
            for index in range(len(payloads)):
                await self._upload(stream, index, 0)
        return waits

    def _check_need(self, index: int, needed: set[int]) -> None:
        count = len(self._question.payloads)
        if index >= count or index in needed:
            again = " again" if index in needed else ""
            raise MalformedMessage(f"{self._link.address} needs input {index} of {count}{again}")

    async def _upload(self, stream: CloudStream, index: int, start: int) -> None:
        """From byte `start` on, until the cloud has enough: it may fail the request, or find its features."""
        assert stream.limits is not None
        most = min(stream.limits.max_chunk_bytes, self._most_chunk)
        for offset, data, crc32 in split(self._question.payloads[index], most, start):
            if not stream.is_wanted(self._request_id, index):
                return
            chunk = pb.Chunk(
                request_id=self._request_id, input_index=index, offset=offset, data=data, crc32=crc32
            )
            await self._send(stream, pb.Up(chunk=chunk))
            self._sent.by_input[index] += len(data)

    async def _send(self, stream: CloudStream, up: pb.Up) -> None:
        # A link that takes nothing holds a write up, until keepalive ends it or the deadline does.
        try:
            left_s = None if self._ends_s is None else self._ends_s - time.monotonic() + _LATE_S
            async with asyncio.timeout(left_s):
                await stream.send(up)
        except TimeoutError:
            raise self._expired() from None
        self._sent.message_bytes += up.ByteSize()


def _fits_inside(stream: CloudStream, payloads: Sequence[bytes], address: str) -> bool:
    """Whether all payloads can ride inside the Open; raises TooLarge where the cloud takes them in no way."""
    assert stream.limits is not None
    num_bytes = sum(map(len, payloads))
    if num_bytes > stream.limits.max_request_bytes:
        raise TooLarge(
            f"the features have {num_bytes:,} bytes, and {address} takes "
            f"{stream.limits.max_request_bytes:,}; use another split point or codec"
        )
    if len(payloads) > stream.limits.max_inputs:
        raise TooLarge(
            f"the request has {len(payloads)} inputs, and {address} takes {stream.limits.max_inputs}; ask "
            "about fewer at once"
        )
    return num_bytes <= min(stream.limits.max_inline_bytes, limits.MAX_INLINE_BYTES)
