"""The keys of the cache: what each is over, and that no tenant's is another's."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest

from cloud_node.asked.embed import Give
from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.served import Served
from cloud_node.asked.settings import Settings
from cloud_node.asked.tenants import Tenant
from cloud_node.asked.trace_context import TraceContext
from cloud_node.caching import cache_keys
from tests.cloud_node.caching.cached import ITEM, KEY, PAYLOAD, REQUEST, SETTINGS
from wire.sizes import ImageSize


def answer_key(request: Request, served: Served, feature_keys: tuple[bytes, ...] = (KEY,)) -> bytes:
    key = cache_keys.answer_key(request, served, feature_keys)
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
    "request_id": "r2", "deadline_s": 1.0, "priority": 3, "model": "other",
    "trace": TraceContext("a", "b", True),
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
    assert cache_keys.answer_key(replace(REQUEST, embed=Give()), served, (KEY,)) is None


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
    drawn = replace(REQUEST, settings=Settings(8, temperature=0.5))
    by_default = replace(REQUEST, settings=Settings(8))
    assert cache_keys.answer_key(drawn, served, (KEY,)) is None
    assert cache_keys.answer_key(by_default, served, (KEY,)) is not None
    assert cache_keys.answer_key(by_default, replace(served, samples_by_default=True), (KEY,)) is None


def test_features_key_is_over_tenant_payload_and_meaning(served: Served) -> None:
    def key(item: RequestInput = ITEM, data: bytes = PAYLOAD, tenant: str = "a") -> bytes:
        return cache_keys.features_key(item, served, memoryview(data), tenant)

    assert key(replace(ITEM, input_key=b"", crc32=9)) == key()
    others = [
        key(data=PAYLOAD[:-1] + b"!"),
        key(replace(ITEM, codec="fp16")),
        key(replace(ITEM, split_point=0)),
        key(replace(ITEM, payload_sizes=(16, 512))),
        key(tenant="b"),
        key(tenant=""),
    ]
    assert len({key(), *others}) == 7


@pytest.mark.parametrize(
    "change", [{"split_point": 0}, {"codec": "fp16"}, {"num_tiles": 2}, {"shape_id": ""}, {"crc32": 5}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_claim_is_one_for_all_arms_of_an_input(served: Served, change: dict[str, Any]) -> None:
    changed = replace(ITEM, **change)
    assert cache_keys.claim_key(changed, served, "a") == cache_keys.claim_key(ITEM, served, "a")


def test_claim_is_of_one_input_tenant_and_bundle(served: Served) -> None:
    keys = {
        cache_keys.claim_key(ITEM, served, "a"),
        cache_keys.claim_key(ITEM, served, "b"),
        cache_keys.claim_key(replace(ITEM, input_key=bytes([1]) * 32), served, "a"),
        cache_keys.claim_key(replace(ITEM, size=ImageSize(48, 64)), served, "a"),
        cache_keys.claim_key(replace(ITEM, modality="audio"), served, "a"),
        cache_keys.claim_key(ITEM, replace(served, bundle_digest="ab" * 32), "a"),
    }
    assert len(keys) == 6


def test_every_stored_name_says_version_and_kind() -> None:
    names = {cache_keys.stored_name(kind, KEY) for kind in ("claim", "features", "answer", "lease")}
    prefix = f"cleave:{cache_keys.FORMAT_VERSION}:".encode()
    assert len(names) == 4
    assert all(name.startswith(prefix) and name.endswith(KEY) for name in names)
