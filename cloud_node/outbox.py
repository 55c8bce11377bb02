"""What waits to go down one stream, bounded by reading nothing more from an edge that takes nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from cloud_node.sequence import TextDelta
from wire.v1 import inference_pb2 as pb

# Far above what an edge that reads ever has waiting; a message is a few hundred bytes.
PAUSE_AT = 1024
# A batch grows no further than this: many times what one step makes, and far from gRPC's limit on a message.
MAX_BATCH_CHARS = 64 * 1024
# Tokens that come faster than this share a message: one costs as much as many, and no reader tells the difference. The
# first token of an answer, and whatever is no token, goes at once.
DELTAS_EVERY_S = 0.01


class Outbox:
    """The answers to what is read, and the tokens of what is open, are all that is ever put here.

    Deltas join the batch at the end of the queue, if there is one: those of one engine step go in one message, as do
    those of `deltas_every_s`, and an edge that reads slowly gets fewer and larger ones. Nothing overtakes anything.
    """

    def __init__(self, deltas_every_s: float = DELTAS_EVERY_S) -> None:
        self._deltas_every_s = deltas_every_s
        self._deltas_from_s = 0.0  # on the loop's clock: when the next may go
        self._is_urgent = asyncio.Event()
        self._messages: deque[pb.Down] = deque()
        self._batch: dict[str, pb.Delta] = {}  # of the last message, by request, if that is a batch
        self._batch_chars = 0
        self._has_changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_ended = False

    def put(self, down: pb.Down) -> None:
        self._batch = {}
        self._append(down)
        self._is_urgent.set()

    def put_delta(self, request_id: str, delta: TextDelta) -> None:
        if self._has_ended:
            return
        if not self._batch or self._batch_chars >= MAX_BATCH_CHARS:
            self._batch, self._batch_chars = {}, 0
            self._append(pb.Down(deltas=pb.DeltaBatch()))
        if delta.token_index == 0:
            self._is_urgent.set()
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
        self._has_changed.set()
        self._is_urgent.set()

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
            if not self._messages:
                self._has_changed.clear()
                await self._has_changed.wait()
                continue
            if self._batch and len(self._messages) == 1:
                await self._ripen()
            down = self._messages.popleft()
            if not self._messages:
                self._batch = {}
                self._is_urgent.clear()
            if len(self._messages) < PAUSE_AT:
                self._has_room.set()
            yield down

    async def _ripen(self) -> None:
        """Lets more tokens join the last batch, until it is time or something is urgent."""
        loop = asyncio.get_running_loop()
        timer = loop.call_at(self._deltas_from_s, self._is_urgent.set)
        await self._is_urgent.wait()
        timer.cancel()
        self._deltas_from_s = loop.time() + self._deltas_every_s

    def _append(self, down: pb.Down) -> None:
        if self._has_ended:
            return
        self._messages.append(down)
        self._has_changed.set()
        if len(self._messages) >= PAUSE_AT:
            self._has_room.clear()
