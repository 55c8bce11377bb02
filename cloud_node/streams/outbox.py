"""What waits to go down one stream, bounded by reading nothing more from an edge that takes nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from cloud_node.asked.sequence import TextDelta
from wire.v1 import inference_pb2 as pb

# Far above what an edge that reads ever has waiting; a message is a few hundred bytes.
PAUSE_AT = 1024
# A batch grows no further than this: many times what one step makes, and far from gRPC's limit on a message.
MAX_BATCH_CHARS = 64 * 1024
# Tokens that come faster than this share a message: one costs as much as many, and no reader tells the difference. The
# first token of an answer, and whatever is no token, goes at once.
DELTAS_EVERY_S = 0.01
# What is not urgent waits as long for something that is, to go with it.
LAZY_S = 0.001
# One gRPC message costs as much as all that is in it; what waits goes together, if the edge reads it so.
MAX_TOGETHER = 64
MAX_TOGETHER_BYTES = 256 * 1024


class Outbox:
    """The answers to what is read, and the tokens of what is open, are all that is ever put here.

    Deltas join the batch at the end of the queue, if there is one: those of one engine step go in one message, as do
    those of `deltas_every_s`, and an edge that reads slowly gets fewer and larger ones. Nothing overtakes anything.
    """

    def __init__(self, deltas_every_s: float = DELTAS_EVERY_S) -> None:
        self._deltas_every_s = deltas_every_s
        self._deltas_from_s = 0.0  # on the loop's clock: when the next may go
        self._is_ripe = asyncio.Event()  # something is to go, or nothing follows
        self._timer: asyncio.TimerHandle | None = None  # makes it so
        self._messages: deque[pb.Down] = deque()
        self._batch: dict[str, pb.Delta] = {}  # of the last message, by request, if that is a batch
        self._batch_chars = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_ended = False
        self.makes_batches = False  # of messages that wait together

    def put(self, down: pb.Down, *, is_urgent: bool = True) -> None:
        self._batch = {}
        self._append(down, LAZY_S if not is_urgent else None)

    def put_delta(self, request_id: str, delta: TextDelta) -> None:
        if self._has_ended:
            return
        if not self._batch or self._batch_chars >= MAX_BATCH_CHARS:
            self._batch, self._batch_chars = {}, 0
            self._append(pb.Down(deltas=pb.DeltaBatch()), 0.0)
        if delta.token_index == 0:
            self._is_ripe.set()
        self._batch_chars += len(delta.text)
        waiting = self._batch.get(request_id)
        if waiting is not None:
            waiting.text += delta.text
            waiting.num_tokens += delta.num_tokens
            return
        self._batch[request_id] = self._messages[-1].deltas.deltas.add(
            request_id=request_id, text=delta.text, token_index=delta.token_index, num_tokens=delta.num_tokens
        )

    def end(self) -> None:
        """Nothing follows."""
        self._has_ended = True
        self._is_ripe.set()

    @property
    def has_room(self) -> bool:
        """Whether the edge takes what it is told."""
        return self._has_room.is_set()

    async def room(self) -> None:
        """Waits until the edge has taken what waits for it."""
        await self._has_room.wait()

    async def messages(self) -> AsyncIterator[pb.Down]:
        """All that was put, until the end."""
        while self._messages or not self._has_ended:
            await self._is_ripe.wait()
            if not self._messages:
                continue
            down = self._take()
            if not self._messages:
                self._rest()
            if len(self._messages) < PAUSE_AT:
                self._has_room.set()
            yield down

    def _take(self) -> pb.Down:
        """The first message, or as many as go together."""
        first = self._messages.popleft()
        if not self.makes_batches or not self._messages:
            return first
        together, num_bytes = [first], first.ByteSize()
        while self._messages and len(together) < MAX_TOGETHER:
            num_bytes += self._messages[0].ByteSize()
            if num_bytes > MAX_TOGETHER_BYTES:
                break
            together.append(self._messages.popleft())
        return pb.Down(batch=pb.Batch(downs=together)) if len(together) > 1 else first

    def _rest(self) -> None:
        """Nothing waits: deltas that come soon wait for others, until it is time or something is urgent."""
        self._batch = {}
        if self._has_ended:
            return
        self._is_ripe.clear()
        self._deltas_from_s = asyncio.get_running_loop().time() + self._deltas_every_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _append(self, down: pb.Down, waits_s: float | None) -> None:
        """To go at once, or no sooner than others may, and than it waits."""
        if self._has_ended:
            return
        self._messages.append(down)
        if len(self._messages) >= PAUSE_AT:
            self._has_room.clear()
        if waits_s is None:
            self._is_ripe.set()
        elif not self._is_ripe.is_set() and self._timer is None:
            loop = asyncio.get_running_loop()
            from_s = max(self._deltas_from_s, loop.time() + waits_s)
            self._timer = loop.call_at(from_s, self._is_ripe.set)
