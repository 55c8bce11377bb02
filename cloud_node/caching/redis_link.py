"""The connections to a Redis: a question costs its asker a stated time at most, and a Redis in trouble is left alone.

    up ── a question times out or fails ──► unsure ── a check is answered ──► up
                                              └────── it is not ──► down ── one every retry_s is ──► up

Nobody asks but the check while it is unsure or down; a second trouble within `retry_s` waits for its end, too. So what
hangs costs `timeout_s` to each request that was asking at that moment, and nothing to those after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cloud_node.caching.redis_settings import RedisSettings

_log = logging.getLogger(__name__)

State = Literal["up", "unsure", "down"]
Trouble = Literal["timeout", "error", "busy", "refused", "dropped", "too_large"]
_TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
Command = tuple[Any, ...]

# What the library raises where the peer is no Redis, or none that we know.
_FAILURES = (RedisError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What Redis says of itself: all of it, whoever uses it."""

    num_bytes: int = 0
    num_entries: int = 0
    num_evicted: int = 0


class RedisLink:
    """All methods run on one loop. `troubles` counts what was not asked, answered or written, by reason."""

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.state: State = "down"
        self.numbers = Numbers()
        self.troubles: Counter[Trouble] = Counter(dict.fromkeys(_TROUBLES, 0))
        self._client = _client(settings)
        self._free = asyncio.Semaphore(settings.num_connections)
        self._may_write = asyncio.Lock()
        self._num_waiting = 0
        self._in_trouble = asyncio.Event()
        self._settled = asyncio.Event()
        self._last_trouble_s = float("-inf")
        self._is_told_down = False
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        return self.state == "up"

    async def start(self) -> None:
        """Finds out whether it is there, within a second or so, and keeps an eye on it from now on."""
        self._settle(await self._check(self.settings.write_timeout_s))
        if self.is_up:
            _log.info("the cache is in %s", self.settings.address)
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def ask(self, *commands: Command) -> list[Any] | None:
        """The replies, from one round trip; a command that Redis refused has its error as reply.

        None where Redis cannot be asked, or does not answer within `timeout_s`.
        """
        if not self.is_up:
            return None
        if self._num_waiting >= self.settings.max_waiting:
            self.troubles["busy"] += 1
            return None
        self._num_waiting += 1
        try:
            async with asyncio.timeout(self.settings.timeout_s), self._free:
                return await self._run(commands) if self.is_up else None
        except TimeoutError:
            self._note_trouble("timeout")
        except _FAILURES:
            self._note_trouble("error")
        finally:
            self._num_waiting -= 1
        return None

    async def write(self, *commands: Command) -> list[Any] | None:
        """As `ask`, for what no request waits for: one at a time, with `write_timeout_s`."""
        try:
            async with self._may_write, asyncio.timeout(self.settings.write_timeout_s):
                return await self._run(commands) if self.is_up and commands else None
        except TimeoutError:
            self._note_trouble("timeout")
        except _FAILURES:
            self._note_trouble("error")
        return None

    async def settled(self) -> bool:
        """Whether it is up, once that is known."""
        await self._settled.wait()
        return self.is_up

    async def close(self) -> None:
        self.state = "down"
        self._settled.set()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        with contextlib.suppress(*_FAILURES):
            await self._client.aclose()

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    def _note_trouble(self, reason: Trouble) -> None:
        self.troubles[reason] += 1
        if self.is_up:
            self.state = "unsure"
            self._settled.clear()
            self._in_trouble.set()

    def _settle(self, why_not: str | None) -> None:
        """Up, or down for a reason; says so once where that is news."""
        self.state = "up" if why_not is None else "down"
        self._settled.set()
        if why_not is not None and not self._is_told_down:
            _log.warning("%s does not answer (%s); going on without it", self.settings.address, why_not)
        elif why_not is None and self._is_told_down:
            _log.info("%s answers again", self.settings.address)
        self._is_told_down = why_not is not None

    async def _watch(self) -> None:
        """Checks every now and then, and at once when there is trouble, but no more than it takes to notice."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.check_s if self.is_up else self.settings.retry_s):
                    await self._in_trouble.wait()
            if self._in_trouble.is_set():
                self._in_trouble.clear()
                await self._hold_off()
            self._settle(await self._check(self.settings.timeout_s))

    async def _hold_off(self) -> None:
        """A Redis that answers checks and nothing else must not cost every request its timeout."""
        now = time.monotonic()
        wait_s = self._last_trouble_s + self.settings.retry_s - now
        self._last_trouble_s = max(now, now + wait_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _check(self, timeout_s: float) -> str | None:
        """Asks how it is; says why that failed, if it did."""
        try:
            async with asyncio.timeout(timeout_s):
                pong, memory, stats, num_entries = await self._run(
                    (("PING",), ("INFO", "memory"), ("INFO", "stats"), ("DBSIZE",))
                )
        except TimeoutError:
            return f"nothing came within {timeout_s:g} s"
        except _FAILURES as error:
            return f"{type(error).__name__}: {error}"[:200]
        if isinstance(pong, Exception):
            return f"{type(pong).__name__}: {pong}"[:200]
        self.numbers = Numbers(
            _number(memory, "used_memory"),
            num_entries if isinstance(num_entries, int) else 0,
            _number(stats, "evicted_keys"),
        )
        return None


def is_refused(reply: object) -> bool:
    """Whether Redis has said no to a command: no room, another type of value, read only."""
    return isinstance(reply, ResponseError)


def _number(info: object, name: str) -> int:
    """Of a section of INFO; 0 where this user may not read it."""
    value = info.get(name) if isinstance(info, dict) else None
    return value if isinstance(value, int) else 0


def _client(settings: RedisSettings) -> Redis:
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "db": settings.db,
        "username": settings.username,
        "password": settings.password,
        # Ours are the timeouts, and nothing is tried twice: its asker is gone by then.
        "socket_timeout": None,
        "socket_connect_timeout": settings.write_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        "max_connections": settings.num_connections + 2,
    }
    if settings.is_tls:
        options |= {"connection_class": SSLConnection, "ssl_ca_certs": settings.ca_file}
    else:
        options["connection_class"] = Connection
    return Redis(connection_pool=ConnectionPool(**options))
