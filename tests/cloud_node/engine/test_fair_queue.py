"""Whose turn it is among tenants: by share, whoever floods; inside a tenant by virtual arrival; nobody starves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.asked.tenants import Tenant
from cloud_node.engine.fair_queue import FairQueue

CALM, FLOOD, HEAVY = Tenant("calm"), Tenant("flood"), Tenant("heavy", share=3.0)


@dataclass(eq=False)
class Item:
    tenant: Tenant
    virtual_arrival_s: float = 0.0


def queue_of(*counts: tuple[Tenant, int]) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue()
    for tenant, count in counts:
        for index in range(count):
            queue.add(Item(tenant, float(index)), 1.0)
    return queue


def taken(queue: FairQueue[Item], count: int) -> list[str]:
    return [queue.take().tenant.name for _ in range(count)]


def test_tenant_that_floods_leaves_every_other_its_turn() -> None:
    queue = queue_of((FLOOD, 50), (CALM, 3))
    assert Counter(taken(queue, 6)) == {"flood": 3, "calm": 3}


def test_newcomer_goes_before_the_second_of_a_flood_that_has_waited_long() -> None:
    queue = queue_of((FLOOD, 50))
    taken(queue, 10)
    queue.add(Item(CALM, 1000.0), 1.0)
    assert "calm" in taken(queue, 2)


def test_turns_are_by_share() -> None:
    queue = queue_of((CALM, 40), (HEAVY, 40))
    assert Counter(taken(queue, 40)) == {"calm": 10, "heavy": 30}


def test_who_takes_more_at_once_has_fewer_turns() -> None:
    queue: FairQueue[Item] = FairQueue()
    for index in range(40):
        queue.add(Item(CALM, index), 1.0)
        queue.add(Item(FLOOD, index), 4.0)
    assert Counter(taken(queue, 25)) == {"calm": 20, "flood": 5}


def test_tenant_that_paused_has_saved_up_nothing() -> None:
    queue = queue_of((FLOOD, 30), (CALM, 1))
    taken(queue, 20)
    for index in range(10):
        queue.add(Item(CALM, index), 1.0)
    assert taken(queue, 10).count("calm") <= 6


def test_leaving_and_coming_back_does_not_wipe_out_what_was_taken() -> None:
    queue = queue_of((FLOOD, 30))
    queue.add(Item(CALM), 10.0)
    while taken(queue, 1) != ["calm"]:
        pass
    queue.add(Item(CALM), 1.0)
    assert taken(queue, 8) == ["flood"] * 8


def test_one_that_gives_up_is_charged_to_nobody() -> None:
    queue = queue_of((FLOOD, 5))
    gone = Item(CALM)
    queue.add(gone, 100.0)
    assert queue.remove(gone)
    assert not queue.remove(gone)
    queue.add(Item(CALM), 1.0)
    assert "calm" in taken(queue, 2)


def test_last_of_the_tenant_that_is_furthest_over_its_share_makes_way() -> None:
    queue = queue_of((FLOOD, 6), (HEAVY, 6), (CALM, 2))
    victim = queue.who_makes_way(CALM)
    assert victim is not None
    assert (victim.tenant, victim.virtual_arrival_s) == (FLOOD, 5.0)


@pytest.mark.parametrize("tenant", [FLOOD, HEAVY])
def test_nobody_makes_way_for_one_that_would_be_over_its_share_itself(tenant: Tenant) -> None:
    assert queue_of((FLOOD, 2), (HEAVY, 6)).who_makes_way(tenant) is None


@given(
    st.lists(st.tuples(st.sampled_from([CALM, FLOOD, HEAVY]), st.integers(0, 50), st.floats(0.1, 8)), max_size=60),
    st.lists(st.booleans(), max_size=120),
)  # fmt: skip
def test_each_tenants_order_is_kept_nobody_is_lost_and_who_waits_is_passed_by_a_bounded_cost(
    arrivals: list[tuple[Tenant, int, float]], takes: list[bool]
) -> None:
    queue: FairQueue[Item] = FairQueue()
    costs: dict[Item, float] = {}
    upcoming = list(arrivals)
    passed: dict[Item, float] = {}  # what others took while it was first of its tenant
    out: list[Item] = []
    for is_take in [*takes, *([False] * len(arrivals)), *([True] * len(arrivals))]:
        if is_take and len(queue):
            firsts = {one.tenant: one for one in sorted(queue, key=lambda one: -one.virtual_arrival_s)}
            item = queue.first()
            assert item is not None
            assert queue.take() is item
            assert item.virtual_arrival_s == firsts[item.tenant].virtual_arrival_s
            for other in firsts.values():
                if other.tenant is not item.tenant:
                    passed[other] = passed.get(other, 0.0) + costs[item] / item.tenant.share
                    # Two others, each ahead by less than what this one's tenant took last, and one of their own.
                    assert passed[other] <= 2 * (8 + 8) + 1e-6
            out.append(item)
        elif not is_take and upcoming:
            tenant, virtual, cost = upcoming.pop()
            item = Item(tenant, float(virtual))
            costs[item] = cost
            queue.add(item, cost)
    assert len(out) == len(arrivals)
    assert len(queue) == 0
