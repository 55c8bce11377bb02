"""The cache: what a key stands for, what is believed, and what is a miss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest

from cloud_node.cache import Answer, Cache, Features
from cloud_node.embed import Give
from cloud_node.inputs import RequestInput
from cloud_node.request import Request
from cloud_node.sequence import FinishReason
from cloud_node.served import Served
from cloud_node.settings import Settings
from cloud_node.store import MemoryStore
from cloud_node.tenants import Tenant
from cloud_node.trace_context import TraceContext
from wire.sizes import ImageSize

KEY = bytes(range(32))
ANSWER = Answer("a red square", 4, 7, FinishReason.LENGTH)
PAYLOAD = bytes(range(256)) * 2 + bytes(16)

SETTINGS = Settings(max_new_tokens=8, temperature=0.0)
ITEM = RequestInput(
    modality="image", shape_id="32x32", split_point=1, codec="raw", size=ImageSize(64, 48), payload_sizes=(512, 16),
    crc32=1, num_tiles=0, input_key=bytes(32),
)  # fmt: skip
REQUEST = Request(
    request_id="r1", prompt="What?", settings=SETTINGS, deadline_s=60, inputs=(ITEM,), priority=0
)


class Kept(MemoryStore):
    """A store whose values a test may change."""

    def __init__(self) -> None:
        super().__init__(1 << 20, 60)

    def damage(self, change: Callable[[bytes], bytes]) -> None:
        for key, (value, expires_s) in list(self._entries.items()):
            self._entries[key] = (change(value), expires_s)


def answer_key(request: Request, served: Served, feature_keys: tuple[bytes, ...] = (KEY,)) -> bytes:
    key = Cache(Kept()).answer_key(request, served, feature_keys)
    assert key is not None
    return key


SETTINGS_CHANGES: dict[str, Any] = {
    "max_new_tokens": 9, "min_new_tokens": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1,
    "repetition_penalty": 1.5, "seed": 4, "stop": (".",), "language": "<|fr|>", "task": "translate",
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS_CHANGES)
def test_every_setting_changes_the_answers_key(served: Served, name: str) -> None:
    base = replace(SETTINGS, seed=3)
    changed = replace(base, **{name: SETTINGS_CHANGES[name]})
    assert answer_key(replace(REQUEST, settings=base), served) != answer_key(
        replace(REQUEST, settings=changed), served
    )


def test_no_setting_is_forgotten_in_these_tests() -> None:
    assert set(SETTINGS_CHANGES) == {field.name for field in fields(Settings)}


# They decide how fast, to whom, or how the features came; what the features are is in their keys.
REQUEST_IRRELEVANT: dict[str, Any] = {
    "request_id": "r2", "deadline_s": 1.0, "priority": 3, "model": "other", "trace": TraceContext("a", "b", True),
}  # fmt: skip
INPUT_CHANGES: dict[str, Any] = {"size": ImageSize(65, 48), "num_tiles": 2, "modality": "audio"}
INPUT_IRRELEVANT: dict[str, Any] = {
    "crc32": 5, "input_key": b"", "split_point": 0, "codec": "fp16", "payload_sizes": (1,), "shape_id": "other",
    "feature_bytes": 1,
}  # fmt: skip


def test_prompt_changes_the_answers_key(served: Served) -> None:
    assert answer_key(replace(REQUEST, prompt="What? "), served) != answer_key(REQUEST, served)


@pytest.mark.parametrize("name", INPUT_CHANGES)
def test_everything_of_an_input_that_an_answer_depends_on_changes_its_key(served: Served, name: str) -> None:
    changed = replace(ITEM, **{name: INPUT_CHANGES[name]})
    assert answer_key(replace(REQUEST, inputs=(changed,)), served) != answer_key(REQUEST, served)


@pytest.mark.parametrize("name", [*REQUEST_IRRELEVANT, *INPUT_IRRELEVANT])
def test_what_an_answer_does_not_depend_on_leaves_its_key(served: Served, name: str) -> None:
    if name in REQUEST_IRRELEVANT:
        changed = replace(REQUEST, **{name: REQUEST_IRRELEVANT[name]})
    else:
        changed = replace(REQUEST, inputs=(replace(ITEM, **{name: INPUT_IRRELEVANT[name]}),))
    assert answer_key(changed, served) == answer_key(REQUEST, served)


def test_no_field_of_a_request_is_forgotten_in_these_tests() -> None:
    tested = {*REQUEST_IRRELEVANT, "prompt", "settings", "inputs", "embed", "tenant"}
    assert tested == {field.name for field in fields(Request)}
    assert {*INPUT_CHANGES, *INPUT_IRRELEVANT} == {field.name for field in fields(RequestInput)}


def test_every_input_and_their_order_change_the_answers_key(served: Served) -> None:
    one, other = bytes(32), KEY
    two = replace(REQUEST, inputs=(ITEM, ITEM))
    keys = {
        answer_key(REQUEST, served, (one,)),
        answer_key(two, served, (one, one)),
        answer_key(two, served, (one, other)),
        answer_key(two, served, (other, one)),
    }
    assert len(keys) == 4


def test_embeddings_are_never_kept_as_an_answer(served: Served) -> None:
    assert Cache(Kept()).answer_key(replace(REQUEST, embed=Give()), served, (KEY,)) is None


def test_model_features_and_tenant_change_the_answers_key(served: Served) -> None:
    weights = msgspec.structs.replace(served.manifest, weights_digest="cd" * 32)
    keys = {
        answer_key(REQUEST, served),
        answer_key(REQUEST, served, feature_keys=(bytes(32),)),
        answer_key(replace(REQUEST, tenant=Tenant("another")), served),
        answer_key(REQUEST, replace(served, manifest=weights)),
        answer_key(REQUEST, replace(served, bundle_digest="ab" * 32)),
        answer_key(REQUEST, replace(served, defaults_digest="ab" * 32)),
    }
    assert len(keys) == 6


def test_picture_of_swapped_sides_is_another(served: Served) -> None:
    one, other = (
        replace(REQUEST, inputs=(replace(ITEM, size=size),)) for size in (ImageSize(1, 23), ImageSize(12, 3))
    )
    assert answer_key(one, served) != answer_key(other, served)


def test_answer_that_is_drawn_without_a_seed_has_no_key(served: Served) -> None:
    cache = Cache(Kept())
    drawn = replace(REQUEST, settings=Settings(8, temperature=0.5))
    by_default = replace(REQUEST, settings=Settings(8))
    assert cache.answer_key(drawn, served, (KEY,)) is None
    assert cache.answer_key(by_default, served, (KEY,)) is not None
    assert cache.answer_key(by_default, replace(served, samples_by_default=True), (KEY,)) is None


def test_what_was_kept_is_got(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        await cache.keep_answer(KEY, ANSWER)
        await cache.keep_features(KEY, Features((512, 16), memoryview(PAYLOAD)))
        await cache.keep_claim(ITEM, served, KEY)
        assert await cache.answer(KEY) == ANSWER
        features = await cache.features(KEY)
        assert features is not None
        assert features.payload_sizes == (512, 16)
        assert features.payload == PAYLOAD
        assert features.payload.readonly
        assert isinstance(features.payload.obj, bytes)
        assert await cache.claimed(ITEM, served) == KEY

    asyncio.run(run())


def test_features_key_is_over_the_payload_and_its_meaning(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())

        async def key(item: RequestInput = ITEM, data: bytes = PAYLOAD) -> bytes:
            return await cache.feature_key(item, served, memoryview(data))

        same = replace(ITEM, input_key=b"", crc32=9)
        assert await key(same) == await key()
        others = [
            await key(data=PAYLOAD[:-1] + b"!"),
            await key(replace(ITEM, codec="fp16")),
            await key(replace(ITEM, split_point=0)),
            await key(replace(ITEM, payload_sizes=(16, 512))),
        ]
        assert len({await key(), *others}) == 5

    asyncio.run(run())


@pytest.mark.parametrize(
    "change",
    [{"input_key": bytes([1]) * 32}, {"split_point": 0}, {"codec": "fp16"}, {"num_tiles": 2}],
    ids=lambda change: next(iter(change)),
)
def test_claim_is_for_one_input_and_arm(served: Served, change: dict[str, Any]) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        await cache.keep_claim(ITEM, served, KEY)
        assert await cache.claimed(replace(ITEM, **change), served) is None

    asyncio.run(run())


def test_claim_is_believed_within_one_tenant_and_one_bundle_only(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        await cache.keep_claim(ITEM, served, KEY, tenant="a")
        assert await cache.claimed(ITEM, served, tenant="a") == KEY
        assert await cache.claimed(ITEM, served, tenant="b") is None
        assert await cache.claimed(ITEM, served) is None
        assert await cache.claimed(ITEM, replace(served, bundle_digest="ab" * 32), tenant="a") is None

    asyncio.run(run())


def test_input_without_a_key_is_never_looked_up(served: Served) -> None:
    async def run() -> None:
        cache = Cache(Kept())
        nameless = replace(ITEM, input_key=b"")
        await cache.keep_claim(nameless, served, KEY)
        assert await cache.claimed(nameless, served) is None
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
        await cache.keep_features(KEY, Features((512, 16), memoryview(PAYLOAD)))
        await cache.keep_claim(ITEM, served, KEY)
        store.damage(change)
        assert await cache.answer(KEY) is None
        assert await cache.features(KEY) is None
        assert await cache.claimed(ITEM, served) is None

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
        await cache.features(KEY)
        await cache.claimed(ITEM, served)
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
