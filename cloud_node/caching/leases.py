"""Who computes an answer, where several clouds share a Redis: one of them, and the others wait for what it keeps.

A lease is a key that holds a random token and expires by itself; whoever computes renews it. Those who wait ask for
lease and answer in one round trip: the lease is given back after the answer is kept, so that whoever gets it and
finds no answer knows that none is coming. Trouble with Redis, and a wait that is too long, mean: compute it here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cloud_node.caching.redis_link import Command
from cloud_node.caching.redis_store import RedisStore

T = TypeVar("T")

# The waits between two questions grow with what was waited already, from and up to these.
_FIRST_S, _LONGEST_S, _SHARE = 0.005, 0.1, 0.25

# Only whoever holds a lease may renew it or give it back: it may have expired, and be another's now.
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_GIVE_BACK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to compute one answer."""

    name: bytes
    value_name: bytes
    token: bytes

    def giving_back(self) -> tuple[object, ...]:
        return ("EVAL", _GIVE_BACK, 1, self.name, self.token)


@dataclass(frozen=True, slots=True)
class _Held:
    """Somebody else's."""


class Leases:
    """One cloud's. All methods run on one loop."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._link = store.link
        self._lease_s = store.link.settings.lease_s
        self._ours: set[Lease] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[list[Any] | None]] = set()  # what ends, whoever asked has gone or not

    async def take_or_follow(
        self, name: bytes, value_name: bytes, read: Callable[[bytes], T | None], most_s: float
    ) -> T | Lease | None:
        """What `read` makes of the value, once it is there; or the lease, where nobody has it.

        None where Redis cannot be asked, or nothing has come after `most_s`.
        """
        began_s = time.monotonic()
        most_s = min(most_s, self._link.settings.max_follow_s)
        while True:
            found = await self._attempt(name, value_name, read)
            waited_s = time.monotonic() - began_s
            if not isinstance(found, _Held):
                return found
            if waited_s >= most_s:
                return None
            await asyncio.sleep(min(max(_FIRST_S, waited_s * _SHARE), _LONGEST_S, most_s - waited_s))

    async def give_back(self, lease: Lease) -> None:
        """After the value that was put is written. A lease that cannot be given back expires."""
        await self._store.written(lease.value_name)
        self._ours.discard(lease)
        await self._link.write(lease.giving_back())

    async def close(self) -> None:
        """What is still held goes back: others need not wait for it to expire."""
        while self._asking:
            await asyncio.gather(*self._asking, return_exceptions=True)
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._link.write(*(lease.giving_back() for lease in self._ours))

    async def _attempt(
        self, name: bytes, value_name: bytes, read: Callable[[bytes], T | None]
    ) -> T | Lease | _Held | None:
        lease = Lease(name, value_name, secrets.token_hex(16).encode())
        asked = self._ask(
            ("SET", name, lease.token, "NX", "PX", self._lease_ms), self._store.reading(value_name)
        )
        try:
            replies = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # Taken or not: nobody is here to renew it, and others would wait until it expires.
            asked.add_done_callback(lambda _: self._ask(lease.giving_back()))
            raise
        if replies is None or isinstance(replies[0], Exception):
            # It may have been taken all the same: it expires then.
            return None
        value = self._store.value(replies[1])
        found = read(value) if value is not None else None
        if replies[0]:
            if found is None:
                self._keep(lease)
                return lease
            await asyncio.shield(self._ask(lease.giving_back()))
        return found if found is not None else _Held()

    def _ask(self, *commands: Command) -> asyncio.Task[list[Any] | None]:
        """A question that is not broken off: what it does to Redis must be known."""
        task = asyncio.get_running_loop().create_task(self._link.ask(*commands))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    @property
    def _lease_ms(self) -> int:
        return max(1, round(self._lease_s * 1000))

    def _keep(self, lease: Lease) -> None:
        self._ours.add(lease)
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while self._ours:
            await asyncio.sleep(self._lease_s / 4)
            await self._link.write(
                *(("EVAL", _RENEW, 1, lease.name, lease.token, self._lease_ms) for lease in self._ours)
            )
