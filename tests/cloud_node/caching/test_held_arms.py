"""Held arms: which features stand in for those that a request would send."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.served import Served
from cloud_node.caching.held_arms import Features, Held, fits, held_as, in_place_of, serving
from tests.cloud_node.caching.cached import ITEM, KEY, PAYLOAD, REQUEST
from wire.manifest import CodecEntry

JPEG = replace(ITEM, shape_id="", split_point=0, codec="jpeg:90", payload_sizes=(700,))
AS_IS = replace(JPEG, codec="jpeg")

# Of the chain's arms; the sample's own is int8:token+zstd at split point 1 with 0.01. The rest are unknown.
STATED = [(0, "int8:token", 0.02), (1, "fp16", 0.001), (2, "fp16", 0.001), (2, "int4:token", 0.2)]


@pytest.fixture
def stated(served: Served) -> Served:
    """A bundle that says how faithful some arms are."""
    chain = served.manifest.chains[0]
    entries = [CodecEntry(point, codec, 100, loss, 2 * loss) for point, codec, loss in STATED]
    chains = [msgspec.structs.replace(chain, codecs=[*chain.codecs, *entries])]
    return replace(served, manifest=msgspec.structs.replace(served.manifest, chains=chains))


def item(split_point: int, codec: str) -> RequestInput:
    return replace(ITEM, split_point=split_point, codec=codec)


def serves(held: RequestInput, wanted: RequestInput, served: Served) -> bool:
    return bool(serving([held_as(held, KEY)], wanted, served))


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (item(1, "fp16"), item(1, "fp16"), True),
        (item(1, "fp16"), item(2, "fp16"), True),
        (item(1, "fp16"), item(1, "int8:token+zstd"), True),
        (item(1, "int8:token+zstd"), item(0, "int8:token"), True),
        (item(0, "int8:token"), item(1, "int8:token+zstd"), False),
        (item(1, "int8:token+zstd"), item(1, "fp16"), False),
        (item(1, "fp16"), item(1, "raw"), False),
        (item(2, "raw+zstd"), item(1, "raw"), True),
        (item(0, "raw"), item(2, "int4:token"), True),
        (item(1, "int8:channel"), item(1, "int8:channel"), True),
        (item(1, "int8:channel"), item(2, "int4:token"), False),
        (item(1, "fp16"), item(1, "int8:channel"), False),
        (item(1, "raw"), item(1, "int8:channel"), True),
        (item(1, "raw"), JPEG, True),
        (item(1, "raw+zstd"), AS_IS, True),
        (item(1, "fp16"), JPEG, False),
        (JPEG, JPEG, True),
        (JPEG, AS_IS, False),
        (AS_IS, AS_IS, True),
        (AS_IS, JPEG, False),
        (AS_IS, item(1, "int4:token"), False),
        (JPEG, item(2, "int4:token"), False),
    ],
)
def test_stored_arm_serves_where_it_is_the_same_or_at_least_as_faithful(
    stated: Served, held: RequestInput, wanted: RequestInput, expected: bool
) -> None:
    assert serves(held, wanted, stated) is expected


def test_other_shape_or_number_of_tiles_serves_no_tensors(stated: Served) -> None:
    raw = item(1, "raw")
    assert not serves(replace(raw, shape_id="other"), raw, stated)
    assert not serves(replace(raw, num_tiles=2), raw, stated)


def test_arm_that_is_not_served_here_serves_nothing_else(stated: Served) -> None:
    refusing = replace(stated, refused={"image/32x32": {2: "its tail misses its bound"}})
    assert not serves(item(2, "raw"), item(1, "raw"), refusing)
    assert serves(item(1, "raw"), item(0, "raw"), refusing)


@pytest.mark.parametrize(
    "foreign",
    [
        Held("32x32", 0, 99, "raw", KEY),
        Held("32x32", 0, -1, "raw", KEY),
        Held("32x32", 10**12, 1, "raw", KEY),
        Held("32x32", 0, 1, "no codec", KEY),
        Held("nowhere", 0, 1, "raw", KEY),
    ],
)
def test_claim_of_an_arm_that_cannot_be_serves_nothing(stated: Served, foreign: Held) -> None:
    assert serving([foreign], ITEM, stated) == serving([foreign], JPEG, stated) == []


def test_same_arm_comes_before_others_and_newer_before_older(stated: Served) -> None:
    arms = [
        held_as(item(2, "raw"), b"new"),
        held_as(item(0, "raw"), b"old"),
        held_as(item(1, "raw"), b"same"),
    ]
    assert [one.feature_key for one in serving(arms, ITEM, stated)] == [b"same", b"new", b"old"]


def test_request_is_rewritten_to_what_stands_in(stated: Served) -> None:
    one = held_as(item(2, "fp16"), KEY)
    found = in_place_of(replace(REQUEST, inputs=(JPEG, ITEM)), {0: one}, stated)
    assert found is not None
    assert found.inputs[1] == ITEM
    changed = found.inputs[0]
    assert (changed.shape_id, changed.split_point, changed.codec) == ("32x32", 2, "fp16")
    assert (changed.size, changed.input_key) == (JPEG.size, JPEG.input_key)


def test_features_that_would_be_too_much_together_stand_in_for_nothing(stated: Served) -> None:
    chain = stated.manifest.chains[0]
    tensor = msgspec.structs.replace(chain.split_points[1].tensors[0], shape=[1, 1 << 14, 1 << 13])
    point = msgspec.structs.replace(chain.split_points[1], tensors=[tensor], raw_bytes=1 << 29)
    points = [chain.split_points[0], point, chain.split_points[2]]
    large = replace(
        stated,
        manifest=msgspec.structs.replace(
            stated.manifest, chains=[msgspec.structs.replace(chain, split_points=points)]
        ),
    )
    three = replace(REQUEST, inputs=(JPEG, JPEG, JPEG))
    one = held_as(item(1, "raw"), KEY)
    assert in_place_of(three, {0: one, 1: one}, large) is not None
    assert in_place_of(three, {0: one, 1: one, 2: one}, large) is None


def test_features_fit_only_where_they_can_be_of_that_arm(stated: Served) -> None:
    def fit(sizes: tuple[int, ...], data: bytes, of: RequestInput = ITEM) -> bool:
        return fits(of, Features(sizes, memoryview(data)), stated)

    assert fit((512, 16), PAYLOAD)
    assert not fit((512, 15), PAYLOAD)
    assert not fit((528,), PAYLOAD)
    assert not fit((10_000_000, 16), bytes(10_000_016))
    assert fit((528,), PAYLOAD, JPEG)
    assert not fit((512, 16), PAYLOAD, JPEG)
