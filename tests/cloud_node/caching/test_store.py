"""What every store does, run over each; and the bounds of the one in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from cloud_node.caching.redis_store import RedisStore
from cloud_node.caching.store import ENTRY_OVERHEAD_BYTES, MemoryStore, Store
from tests.kit.redis_servers import redis_server, server_programs

TTL_S = 10.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def memory_store(clock: Clock) -> MemoryStore:
    return MemoryStore(1 << 20, TTL_S, clock)


@contextlib.asynccontextmanager
async def store_of(kind: str) -> AsyncIterator[Store]:
    """An empty one: in memory, or in a real server of that kind."""
    if kind == "memory":
        yield MemoryStore(1 << 20, TTL_S)
        return
    with redis_server(server_programs()[kind]) as server:
        store = RedisStore(server.settings(), TTL_S)
        await store.start()
        yield store
        await store.close()


async def settled(store: Store) -> None:
    """What was put is where another process would find it."""
    if isinstance(store, RedisStore):
        await store.flush()


Test = Callable[[Store], Coroutine[Any, Any, None]]


def over_each_store(test: Test) -> Callable[[str], None]:
    """A test of the contract, run over every kind of store."""

    @pytest.mark.parametrize("kind", ["memory", *server_programs()])
    def run(kind: str) -> None:
        async def inside() -> None:
            async with store_of(kind) as store:
                await test(store)

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class TestStore:
    """The contract: what the cache relies on, whichever store it has; of what is on its way, and of what is there."""

    @staticmethod
    @over_each_store
    async def test_value_that_was_put_is_got_at_once_and_later(store: Store) -> None:
        await store.put(b"key", b"value")
        assert await store.get(b"key") == b"value"
        await settled(store)
        assert await store.get(b"key") == b"value"

    @staticmethod
    @over_each_store
    async def test_unknown_key_is_none(store: Store) -> None:
        assert await store.get(b"key") is None

    @staticmethod
    @over_each_store
    async def test_later_value_replaces_the_earlier(store: Store) -> None:
        await store.put(b"key", b"a longer value")
        await store.put(b"key", b"new")
        assert await store.get(b"key") == b"new"
        await settled(store)
        assert await store.get(b"key") == b"new"
        await store.put(b"key", b"newest")
        await settled(store)
        assert await store.get(b"key") == b"newest"

    @staticmethod
    @over_each_store
    async def test_any_bytes_come_back_as_they_were(store: Store) -> None:
        for value in (b"\0", b"\0\xff\r\n", b"$-1\r\n", bytes(range(256)) * 100):
            await store.put(b"\0\xff key", value)
            await settled(store)
            assert await store.get(b"\0\xff key") == value

    @staticmethod
    @over_each_store
    async def test_empty_value_is_none(store: Store) -> None:
        await store.put(b"key", b"")
        await settled(store)
        assert await store.get(b"key") is None

    @staticmethod
    @over_each_store
    async def test_keys_do_not_touch_each_other(store: Store) -> None:
        await store.put(b"a", b"1")
        await store.put(b"ab", b"2")
        await settled(store)
        assert await store.get(b"a") == b"1"
        assert await store.get(b"b") is None

    @staticmethod
    @over_each_store
    async def test_several_keys_are_got_in_their_order_wherever_they_are(store: Store) -> None:
        await store.put(b"a", b"1")
        await settled(store)
        await store.put(b"b", b"2")
        assert await store.get_many([b"b", b"none", b"a", b"b"]) == [b"2", None, b"1", b"2"]
        assert await store.get_many([]) == []

    @staticmethod
    @over_each_store
    async def test_many_values_at_once_are_all_kept(store: Store) -> None:
        keys = [str(number).encode() for number in range(500)]
        for key in keys:
            await store.put(key, key * 3)
        await settled(store)
        assert await store.get_many(keys) == [key * 3 for key in keys]


def test_value_is_gone_after_its_time_however_often_it_was_got(clock: Clock) -> None:
    async def run() -> None:
        store = memory_store(clock)
        await store.put(b"key", b"value")
        clock.now_s += TTL_S - 0.1
        assert await store.get(b"key") == b"value"
        clock.now_s += 0.1
        assert await store.get(b"key") is None
        assert (store.num_entries, store.num_bytes) == (0, 0)

    asyncio.run(run())


def test_putting_again_gives_a_value_its_whole_time(clock: Clock) -> None:
    async def run() -> None:
        store = memory_store(clock)
        await store.put(b"key", b"value")
        clock.now_s += TTL_S - 1
        await store.put(b"key", b"value")
        clock.now_s += TTL_S - 1
        assert await store.get(b"key") == b"value"

    asyncio.run(run())


def test_least_recently_used_values_go_when_bytes_run_out(clock: Clock) -> None:
    async def run() -> None:
        size = 1 + 100 + ENTRY_OVERHEAD_BYTES
        store = MemoryStore(3 * size, TTL_S, clock)
        for key in (b"a", b"b", b"c"):
            await store.put(key, bytes(100))
        assert store.num_bytes == 3 * size
        await store.get(b"a")
        await store.put(b"d", bytes(100))
        assert await store.get(b"b") is None
        assert [await store.get(key) is not None for key in (b"a", b"c", b"d")] == [True] * 3
        assert (store.num_entries, store.num_bytes, store.num_evicted) == (3, 3 * size, 1)

    asyncio.run(run())


def test_value_larger_than_the_store_is_not_kept_and_drives_nothing_out(clock: Clock) -> None:
    async def run() -> None:
        store = MemoryStore(1000, TTL_S, clock)
        await store.put(b"a", b"small")
        await store.put(b"b", bytes(1000))
        assert await store.get(b"a") == b"small"
        assert await store.get(b"b") is None
        assert store.num_evicted == 0

    asyncio.run(run())


def test_store_of_no_bytes_keeps_nothing(clock: Clock) -> None:
    async def run() -> None:
        store = MemoryStore(0, TTL_S, clock)
        await store.put(b"", b"")
        assert await store.get(b"") is None
        assert (store.num_entries, store.num_bytes) == (0, 0)

    asyncio.run(run())
