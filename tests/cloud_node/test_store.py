"""What every store does, run over each; and the bounds of the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cloud_node.store import ENTRY_OVERHEAD_BYTES, MemoryStore, Store

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


@pytest.mark.parametrize("make", [memory_store])
class TestStore:
    """The contract: what the cache relies on, whichever store it has."""

    @pytest.fixture
    def store(self, make: Callable[[Clock], Store], clock: Clock) -> Store:
        return make(clock)

    def test_value_that_was_put_is_got(self, store: Store) -> None:
        asyncio.run(store.put(b"key", b"value"))
        assert asyncio.run(store.get(b"key")) == b"value"

    def test_unknown_key_is_none(self, store: Store) -> None:
        assert asyncio.run(store.get(b"key")) is None

    def test_later_value_replaces_the_earlier(self, store: Store) -> None:
        asyncio.run(store.put(b"key", b"a longer value"))
        asyncio.run(store.put(b"key", b"new"))
        assert asyncio.run(store.get(b"key")) == b"new"

    @pytest.mark.parametrize("value", [b"", b"\0\xff\r\n", bytes(range(256)) * 100])
    def test_any_bytes_come_back_as_they_were(self, store: Store, value: bytes) -> None:
        asyncio.run(store.put(b"\0\xff key", value))
        assert asyncio.run(store.get(b"\0\xff key")) == value

    def test_keys_do_not_touch_each_other(self, store: Store) -> None:
        asyncio.run(store.put(b"a", b"1"))
        asyncio.run(store.put(b"ab", b"2"))
        assert asyncio.run(store.get(b"a")) == b"1"
        assert asyncio.run(store.get(b"b")) is None


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
