"""What came down for one request and was not read yet: bounded, as the stream is read for all requests at once."""

from __future__ import annotations

import asyncio

from wire.errors import CleaveError, TooLarge
from wire.limits import MAX_UNREAD_BYTES
from wire.v1 import inference_pb2 as pb


class StreamLost(Exception):
    """The stream ended with this error, and no request did: what was open on it may go on elsewhere."""

    def __init__(self, error: CleaveError) -> None:
        super().__init__(str(error))
        self.error = error


# A message, or at last how it ended.
Item = pb.Down | CleaveError | StreamLost

_OVERHEAD_BYTES = 512  # of a message in memory, beside what it holds


class Inbox:
    """Messages in their order. Whoever sends more than anybody reads ends the request, and nothing else."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Item, int]] = asyncio.Queue()
        self._num_bytes = 0

    def put(self, item: Item) -> Item:
        """What was put: a TooLarge where there is no room for a message."""
        num_bytes = 0
        if isinstance(item, pb.Down):
            num_bytes = item.ByteSize() + _OVERHEAD_BYTES
            if self._num_bytes + num_bytes > MAX_UNREAD_BYTES:
                item, num_bytes = self._full(), 0
        self._num_bytes += num_bytes
        self._queue.put_nowait((item, num_bytes))
        return item

    async def get(self) -> Item:
        """Waits for the next one."""
        item, num_bytes = await self._queue.get()
        self._num_bytes -= num_bytes
        return item

    def _full(self) -> TooLarge:
        return TooLarge(
            f"{self._num_bytes:,} bytes came for one request and were not read, and at most {MAX_UNREAD_BYTES:,} are "
            "kept; read the answer as it comes"
        )
