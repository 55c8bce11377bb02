"""What a device remembers of pictures: the latest, within its bounds."""

from __future__ import annotations

import pytest

from edge_node.coding import Coded
from edge_node.memory import FeatureMemory, Place
from wire.v1 import inference_pb2 as pb

PLACE = Place("ab" * 32, bytes(32), "48x48", 1, "raw")


def place(index: int) -> Place:
    return PLACE._replace(split_point=index)


def coded(num_bytes: int) -> Coded:
    return Coded(pb.Input(), bytes(num_bytes), "label")


def test_features_are_found_where_they_were_put() -> None:
    memory = FeatureMemory()
    kept = coded(10)
    memory.put(PLACE, kept)
    assert memory.get(PLACE) is kept
    assert (len(memory), memory.num_bytes) == (1, 10)


@pytest.mark.parametrize(
    "other",
    [
        PLACE._replace(bundle_digest="cd" * 32),
        PLACE._replace(input_key=bytes([1]) * 32),
        PLACE._replace(shape_id="64x48"),
        PLACE._replace(split_point=2),
        PLACE._replace(codec="fp16"),
    ],
)
def test_another_bundle_picture_or_arm_has_features_of_its_own(other: Place) -> None:
    memory = FeatureMemory()
    memory.put(PLACE, coded(10))
    assert memory.get(other) is None


def test_least_recently_used_features_go_when_bytes_run_out() -> None:
    memory = FeatureMemory(max_bytes=30)
    for index in range(3):
        memory.put(place(index), coded(10))
    memory.get(place(0))
    memory.put(place(3), coded(10))
    assert [memory.get(place(index)) is not None for index in range(4)] == [True, False, True, True]
    assert memory.num_bytes == 30


def test_number_of_features_is_bounded_however_small_they_are() -> None:
    memory = FeatureMemory(max_entries=2)
    for index in range(5):
        memory.put(place(index), coded(0))
    assert len(memory) == 2
    assert memory.get(place(4)) is not None


def test_features_larger_than_the_memory_are_not_kept_and_drive_nothing_out() -> None:
    memory = FeatureMemory(max_bytes=30)
    memory.put(place(0), coded(10))
    memory.put(place(1), coded(31))
    assert memory.get(place(0)) is not None
    assert memory.get(place(1)) is None


def test_same_place_is_counted_once() -> None:
    memory = FeatureMemory()
    memory.put(PLACE, coded(10))
    memory.put(PLACE, coded(20))
    assert (len(memory), memory.num_bytes) == (1, 20)


def test_memory_of_no_bytes_keeps_nothing() -> None:
    memory = FeatureMemory(max_bytes=0)
    memory.put(PLACE, coded(10))
    assert memory.get(PLACE) is None
