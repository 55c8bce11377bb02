"""Where the cache keeps its values: bytes under bytes, for a while and within bounds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

# What one entry takes beside its key and value: its place in the dictionary, three objects' headers, the expiry.
ENTRY_OVERHEAD_BYTES = 320


class Store(Protocol):
    """Raises nothing: a store that cannot be reached holds nothing, and keeps nothing. An empty value is none."""

    async def get(self, key: bytes) -> bytes | None:
        """The value that was put last, unless it was dropped since."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The same of several keys, in their order, for the time of one."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Keeps the value, if there is room for it at all. Waits for no other process."""

    async def close(self) -> None:
        """Writes what is still to be written, where that takes no longer than a moment."""


class MemoryStore:
    """The least recently used entries go first; none is given out `ttl_s` after it was put."""

    def __init__(self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()  # value, when it expires
        self.num_bytes = 0
        self.num_evicted = 0

    @property
    def num_entries(self) -> int:
        return len(self._entries)

    async def get(self, key: bytes) -> bytes | None:
        if key not in self._entries:
            return None
        value, expires_s = self._entries[key]
        if self._clock() >= expires_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def put(self, key: bytes, value: bytes) -> None:
        self._drop(key)
        size = _size(key, value)
        if size > self._max_bytes or not value:
            return
        while self.num_bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self.num_evicted += 1
        self._entries[key] = (value, self._clock() + self._ttl_s)
        self.num_bytes += size

    async def close(self) -> None:
        """There is nothing to be written."""

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.num_bytes -= _size(key, entry[0])


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD_BYTES
