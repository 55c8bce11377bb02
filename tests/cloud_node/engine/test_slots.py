"""Rows of the KV cache: whatever comes and goes, what runs is contiguous and every content is at its row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.engine.slots import Move, Slots


class Key:
    """Compared by identity, as sequences are."""


class Rows:
    """Slots beside what their rows hold: `take` writes a content, and moves copy it as the runner does."""

    def __init__(self, num_slots: int) -> None:
        self.slots: Slots[Key] = Slots(num_slots)
        self.content: list[Key | None] = [None] * num_slots

    def take(self) -> None:
        key = Key()
        row = self.slots.take(key)
        self.content[row] = key

    def running(self) -> list[Key]:
        reading = [self.slots.prefilling] if self.slots.prefilling is not None else []
        return [*self.slots.decoding, *reading]

    def release(self, key: Key) -> list[Move]:
        moves = self.slots.release(key)
        for move in moves:
            self.content[move.target] = self.content[move.source]
        return moves

    def check(self) -> None:
        keys = self.running()
        assert self.slots.num_used == len(keys)
        assert self.slots.num_free == self.slots.num_slots - len(keys)
        assert [self.slots.row(key) for key in keys] == list(range(len(keys)))
        assert self.content[: len(keys)] == keys
        assert [self.slots.at(row) for row in range(len(keys))] == keys


@given(st.integers(1, 6), st.data())
def test_any_order_of_taking_and_releasing_keeps_every_content_at_its_row(
    num_slots: int, data: st.DataObject
) -> None:
    rows = Rows(num_slots)
    for _ in range(data.draw(st.integers(0, 30))):
        can = ["release"] * bool(rows.running())
        can += ["start_decoding"] * (rows.slots.prefilling is not None)
        can += ["take"] * (rows.slots.prefilling is None and rows.slots.num_free > 0)
        match data.draw(st.sampled_from(can)):
            case "take":
                rows.take()
            case "start_decoding":
                rows.slots.start_decoding()
            case "release":
                assert len(rows.release(data.draw(st.sampled_from(rows.running())))) <= 2
        rows.check()


def full(num_decoding: int) -> Rows:
    """So many that decode, and one whose prompt is read."""
    rows = Rows(num_decoding + 1)
    for _ in range(num_decoding):
        rows.take()
        rows.slots.start_decoding()
    rows.take()
    return rows


def test_release_moves_the_last_that_decodes_into_the_gap_and_what_is_read_behind_it() -> None:
    rows = full(3)
    assert rows.release(rows.slots.decoding[0]) == [Move(2, 0), Move(3, 2)]
    rows.check()


def test_release_of_the_last_that_decodes_moves_only_what_is_read() -> None:
    rows = full(3)
    assert rows.release(rows.slots.decoding[2]) == [Move(3, 2)]
    rows.check()


def test_release_of_what_is_read_moves_nothing() -> None:
    rows = full(3)
    assert rows.slots.prefilling is not None
    assert rows.release(rows.slots.prefilling) == []
    rows.check()


def test_who_has_no_row_is_not_released() -> None:
    rows = full(1)
    with pytest.raises(ValueError):
        rows.release(Key())
