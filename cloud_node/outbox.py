"""What waits to go down one stream, bounded by reading nothing more from an edge that takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from wire.v1 import inference_pb2 as pb

# Far above what an edge that reads ever has waiting; a message is a few hundred bytes.
PAUSE_AT = 1024


class Outbox:
    """The answers to what is read, and the tokens of what is open, are all that is ever put here."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[pb.Down | None] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, down: pb.Down) -> None:
        self._messages.put_nowait(down)
        if self._messages.qsize() >= PAUSE_AT:
            self._has_room.clear()

    def end(self) -> None:
        """Nothing follows."""
        self._messages.put_nowait(None)

    async def room(self) -> None:
        """Waits until the edge has taken what waits for it."""
        await self._has_room.wait()

    async def messages(self) -> AsyncIterator[pb.Down]:
        """All that was put, until the end."""
        while (down := await self._messages.get()) is not None:
            if self._messages.qsize() < PAUSE_AT:
                self._has_room.set()
            yield down
