"""The cache: what is kept is got, by its tenant only, and what is damaged or foreign is a miss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_node.asked.served import Served
from cloud_node.caching.cache import Cache, Features
from cloud_node.caching.held_arms import MAX_HELD, Held, held_as
from cloud_node.caching.store import MemoryStore
from tests.cloud_node.caching.cached import ANSWER, ITEM, KEY, PAYLOAD, REQUEST

FEATURES = Features((512, 16), memoryview(PAYLOAD))


class Kept(MemoryStore):
    """A store whose values a test may change."""

    def __init__(self) -> None:
        super().__init__(1 << 20, 60)

    def damage(self, change: Callable[[bytes], bytes]) -> None:
        for key, (value, expires_s) in list(self._entries.items()):
            self._entries[key] = (change(value), expires_s)


async def held(cache: Cache, served: Served, tenant: str = "a", **changes: Any) -> list[Held]:
    return (await cache.held([replace(ITEM, **changes)], served, tenant))[0]


def test_what_was_kept_is_got(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        await cache.keep_answer(KEY, ANSWER)
        await cache.keep_features(KEY, FEATURES)
        await cache.keep_held(ITEM, served, KEY, [], "a")
        assert await cache.answer(KEY) == ANSWER
        (features,) = await cache.features([KEY])
        assert features is not None
        assert features.payload_sizes == (512, 16)
        assert features.payload == PAYLOAD
        assert features.payload.readonly
        assert isinstance(features.payload.obj, bytes)
        assert await held(cache, served) == [held_as(ITEM, KEY)]

    asyncio.run(run())


def test_held_arms_of_several_inputs_come_in_their_order(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        other = replace(ITEM, input_key=bytes([7]) * 32)
        nameless = replace(ITEM, input_key=b"")
        await cache.keep_held(ITEM, served, KEY, [], "a")
        found = await cache.held([other, nameless, ITEM], served, "a")
        assert found == [[], [], [held_as(ITEM, KEY)]]

    asyncio.run(run())


def test_held_arms_are_the_newest_few_and_one_of_each(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        for number in range(MAX_HELD + 2):
            item = replace(ITEM, split_point=number)
            await cache.keep_held(item, served, bytes([number]), await held(cache, served), "a")
        await cache.keep_held(replace(ITEM, split_point=5), served, b"new", await held(cache, served), "a")
        arms = await held(cache, served)
        assert [one.split_point for one in arms] == [5, 9, 8, 7, 6, 4, 3, 2]
        assert arms[0].feature_key == b"new"

    asyncio.run(run())


def test_claim_is_believed_within_one_tenant_and_one_bundle_only(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        await cache.keep_held(ITEM, served, KEY, [], "a")
        assert await held(cache, served, "a") == [held_as(ITEM, KEY)]
        assert await held(cache, served, "b") == await held(cache, served, "") == []
        assert await held(cache, replace(served, bundle_digest="ab" * 32), "a") == []

    asyncio.run(run())


def test_input_without_a_key_is_never_looked_up(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        nameless = replace(ITEM, input_key=b"")
        await cache.keep_held(nameless, served, KEY, [], "a")
        assert await cache.held([nameless], served, "a") == [[]]
        assert not cache.counts

    asyncio.run(run())


def _flipped(value: bytes) -> bytes:
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        _flipped,
        lambda value: value[:-1],
        lambda value: value + b"\0",
        lambda value: b"",
        lambda value: b"\x93\x01\x00\xc4\x00",
        lambda value: b"\x93\x01" + value[2:],
        lambda value: b"from another program",
    ],
    ids=["flipped", "short", "long", "empty", "no body", "another version", "foreign"],
)
def test_damaged_or_foreign_value_is_a_miss(served: Served, change: Callable[[bytes], bytes]) -> None:
    async def run() -> None:
        store = Kept()
        cache = Cache(store)
        await cache.keep_answer(KEY, ANSWER)
        await cache.keep_features(KEY, FEATURES)
        await cache.keep_held(ITEM, served, KEY, [], "a")
        store.damage(change)
        assert await cache.answer(KEY) is None
        assert await cache.features([KEY]) == [None]
        assert await held(cache, served) == []

    asyncio.run(run())


def test_value_under_anothers_key_is_a_miss() -> None:
    async def run() -> None:
        store = Kept()
        cache = Cache(store)
        await cache.keep_answer(KEY, ANSWER)
        name, (value, _) = next(iter(store._entries.items()))
        await store.put(name.replace(KEY, bytes(32)), value)
        assert await cache.answer(bytes(32)) is None

    asyncio.run(run())


def test_look_ups_are_counted_by_kind_and_outcome(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        await cache.answer(KEY)
        await cache.keep_answer(KEY, ANSWER)
        await cache.answer(KEY)
        await cache.answer(KEY)
        await cache.features([KEY])
        await held(cache, served)
        assert cache.counts == {
            ("answer", "miss"): 1,
            ("answer", "hit"): 2,
            ("features", "miss"): 1,
            ("claim", "miss"): 1,
        }

    asyncio.run(run())


def test_cache_without_a_store_keeps_looks_up_and_counts_nothing(served: Served) -> None:
    async def run() -> None:
        cache = Cache(None)
        await cache.keep_answer(KEY, ANSWER)
        assert await cache.answer(KEY) is None
        assert cache.answer_key(REQUEST, served, (KEY,)) is None
        assert not cache.counts

    asyncio.run(run())
