"""Memory for what is uploaded: bounded for all, and nobody holds more than is left to others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.asked.held_bytes import HeldBytes, Hold
from cloud_node.config import CloudConfig
from wire.errors import BadInput, Overloaded


def hold_all_it_can(budget: HeldBytes, holder: str, num_bytes: int, tenant: str = "") -> list[Hold]:
    holds: list[Hold] = []
    while True:
        try:
            holds.append(budget.take(holder, num_bytes, 0.5, tenant))
        except Overloaded:
            return holds


def test_one_holder_leaves_half_to_others() -> None:
    assert len(hold_all_it_can(HeldBytes(1000), "one", 10)) == 50


def test_newcomer_finds_room_however_many_hold_all_they_can() -> None:
    budget = HeldBytes(1000)
    for number in range(8):
        assert hold_all_it_can(budget, f"edge {number}", 1, f"tenant {number}")
    assert budget.num_bytes <= 1000


def test_tenant_of_ever_so_many_edges_leaves_room_for_another() -> None:
    budget = HeldBytes(10_000)
    for number in range(100):
        hold_all_it_can(budget, f"edge {number}", 1, "many")
    assert 0.9 * 10_000 < budget.num_bytes < 0.95 * 10_000
    assert hold_all_it_can(budget, "edge", 200, "one")


def test_given_back_bytes_are_free_once_however_often_they_are_given_back() -> None:
    budget = HeldBytes(100)
    first, second = budget.take("one", 20, 0.5), budget.take("one", 20, 0.5)
    for _ in range(3):
        first.give_back()
    assert budget.num_bytes == 20
    second.give_back()
    assert budget.num_bytes == 0


def test_refusal_says_when_to_come_back_and_not_to_all_the_same() -> None:
    budget = HeldBytes(100)
    times = set()
    for spread in (0.0, 0.5, 1.0):
        with pytest.raises(Overloaded, match="60 bytes finds too little") as refused:
            budget.take("one", 60, spread)
        times.add(refused.value.retry_after_s)
    assert len(times) == 3


def test_settings_under_which_the_largest_request_never_fits_are_refused() -> None:
    with pytest.raises(BadInput, match="max_held_bytes"):
        CloudConfig(max_held_bytes=64 * 1024 * 1024)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.booleans()), max_size=80))
def test_never_more_is_held_than_the_budget_and_all_comes_back(steps: list[tuple[int, int, bool]]) -> None:
    budget = HeldBytes(100)
    holds: list[Hold] = []
    for holder, num_bytes, is_return in steps:
        if is_return and holds:
            holds.pop(0).give_back()
            continue
        try:
            holds.append(budget.take(holder, num_bytes, 0.5))
        except Overloaded:
            assert num_bytes > 0 or budget.num_bytes > 50
        assert 0 <= budget.num_bytes <= 100
    for hold in holds:
        hold.give_back()
    assert budget.num_bytes == 0
    budget.take("anybody", 50, 0.5)
