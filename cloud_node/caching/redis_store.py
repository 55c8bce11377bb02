"""The cache's values in Redis, for several clouds: looked up within a stated time, written behind.

Bounds: values of `max_value_bytes`, read and written; `max_pending_bytes` that wait to be written, and a value more is
dropped. How much Redis keeps is its own `maxmemory`, with a policy that evicts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from cloud_node.caching.redis_link import RedisLink, is_refused
from cloud_node.caching.redis_settings import RedisSettings

# One round trip writes so many values, of so many bytes together: one that is lost takes no more with it.
_BATCH_VALUES, _BATCH_BYTES = 32, 1 << 20


class RedisStore:
    """A Store. What was put and is not written yet is got from here, so that a process reads what it wrote."""

    def __init__(self, settings: RedisSettings, ttl_s: float) -> None:
        self.link = RedisLink(settings)
        self._settings = settings
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._pending: dict[bytes, bytes] = {}  # in the order of their writing
        self._pending_bytes = 0
        self._has_pending = asyncio.Event()
        self._batch_is_over = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connects, or finds out that it cannot yet."""
        await self.link.start()
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def get(self, key: bytes) -> bytes | None:
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        unwritten = {key: self._pending[key] for key in keys if key in self._pending}
        asked = [key for key in dict.fromkeys(keys) if key not in unwritten]
        replies = await self.link.ask(*(self.reading(key) for key in asked)) if asked else None
        values = dict(zip(asked, map(self.value, replies or ()), strict=False))
        return [unwritten.get(key) or values.get(key) for key in keys]

    def reading(self, key: bytes) -> tuple[object, ...]:
        """The command that reads a value, and no more than one may have: anybody may have put anything there."""
        return ("GETRANGE", key, 0, self._settings.max_value_bytes)

    def value(self, reply: object) -> bytes | None:
        """What that command's reply says: missing, of another type, and too large are all none."""
        return (
            reply if isinstance(reply, bytes) and 0 < len(reply) <= self._settings.max_value_bytes else None
        )

    async def put(self, key: bytes, value: bytes) -> None:
        if not value or len(value) > self._settings.max_value_bytes:
            self.link.troubles["too_large"] += bool(value)
            return
        more = len(value) - len(self._pending.get(key, b""))
        if self.link.state == "down" or self._pending_bytes + more > self._settings.max_pending_bytes:
            self.link.troubles["dropped"] += 1
            return
        self._pending.pop(key, None)
        self._pending[key] = value
        self._pending_bytes += more
        self._has_pending.set()

    async def written(self, key: bytes) -> None:
        """Until what was put under a key is written or given up."""
        while key in self._pending:
            await self._batch_is_over.wait()

    async def flush(self) -> None:
        """The same of all keys."""
        while self._pending:
            await self._batch_is_over.wait()

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.flush(), self._settings.write_timeout_s)
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self.link.close()

    async def _write(self) -> None:
        while True:
            await self._has_pending.wait()
            is_up = await self.link.settled()
            batch = _batch(self._pending) if is_up else dict(self._pending)
            replies = await self.link.write(
                *(("SET", key, value, "PX", self._ttl_ms) for key, value in batch.items())
            )
            if replies is None:
                self.link.troubles["dropped"] += len(batch)
            else:
                self.link.troubles["refused"] += sum(map(is_refused, replies))
            for key, value in batch.items():
                # Another value may have been put under it meanwhile.
                if self._pending.get(key) is value:
                    del self._pending[key]
                    self._pending_bytes -= len(value)
            if not self._pending:
                self._has_pending.clear()
            self._batch_is_over.set()
            self._batch_is_over = asyncio.Event()


def _batch(pending: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The first few values."""
    batch: dict[bytes, bytes] = {}
    num_bytes = 0
    for key, value in pending.items():
        num_bytes += len(value)
        if batch and (len(batch) == _BATCH_VALUES or num_bytes > _BATCH_BYTES):
            break
        batch[key] = value
    return batch
