"""Who is admitted next and which part of a prompt is read next; and that nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.asked.tenants import ANYBODY, Tenant
from cloud_node.engine.scheduler import Scheduler, chunk_stop

PRIORITY_S = 5.0
MOST_S = 9 * PRIORITY_S


@dataclass(eq=False)
class Item:
    """What a scheduler sees of a sequence, on a clock of the test's own: one second per step."""

    arrived_s: float = 0.0
    priority: int = 0
    num_prompt_tokens: int = 4
    num_new_tokens: int = 2
    span: int = 1  # tokens between two cuts
    num_prefilled: int = 0
    num_generated: int = 0
    tenant: Tenant = ANYBODY

    @property
    def virtual_arrival_s(self) -> float:
        return self.arrived_s - self.priority * PRIORITY_S

    @property
    def max_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_new_tokens

    @property
    def cuts(self) -> Sequence[int]:
        end = self.num_prompt_tokens
        return [*(cut for cut in range(self.span, end, self.span)), end]


@dataclass
class Simulation:
    """Steps as the running batch does, without a model: every row gets a token, then prompts are read."""

    scheduler: Scheduler

    def __post_init__(self) -> None:
        self.admitted: list[Item] = []
        self.arrived: list[Item] = []

    def add(self, item: Item) -> None:
        self.arrived.append(item)
        self.scheduler.add(item)

    def step(self) -> None:
        scheduler = self.scheduler
        for item in list(scheduler.slots.decoding):
            assert isinstance(item, Item)
            item.num_generated += 1
            if item.num_generated >= item.num_new_tokens:
                scheduler.remove(item)
        budget = scheduler.chunk_tokens
        while budget > 0:
            first = scheduler._queue.first()
            if (admitted := scheduler.admit()) is not None:
                assert isinstance(admitted, Item)
                assert admitted is first, "the first was passed over"
                self.admitted.append(admitted)
            chunk = scheduler.next_chunk(budget)
            if chunk is None:
                break
            longest_span = chunk.stop - chunk.start <= getattr(chunk.sequence, "span", 1)
            assert chunk.num_tokens <= budget or (longest_span and budget == scheduler.chunk_tokens)
            chunk.sequence.num_prefilled = chunk.stop
            budget -= chunk.num_tokens
            if chunk.is_last:
                scheduler.slots.start_decoding()
        slots = scheduler.slots
        assert slots.num_used <= slots.num_slots
        if scheduler.max_tokens and slots.num_used > 1:
            assert scheduler.num_tokens <= scheduler.max_tokens

    def steps_until_admitted(self, item: Item, before_each: Callable[[float], None], most: int = 400) -> int:
        for step in range(most):
            before_each(float(step))
            self.step()
            if item in self.admitted:
                return step
        raise AssertionError(f"still waiting after {most} steps")

    def require_bounded_overtaking(self) -> None:
        """Each was admitted after at most those that arrived up to 9 * priority_s later."""
        for at, item in enumerate(self.admitted):
            for earlier in self.admitted[:at]:
                assert earlier.arrived_s <= item.arrived_s + MOST_S


@pytest.mark.parametrize(
    ("start", "budget", "stop"),
    [
        (0, 1, 1),
        (0, 2, 2),
        (0, 4, 2),  # the span of 3 to 6 does not fit: what comes before it is read alone
        (2, 1, 6),  # longer than the budget: read whole
        (2, 3, 6),
        (2, 4, 6),
        (2, 5, 7),
        (0, 100, 8),
        (7, 1, 8),
    ],
)
def test_chunk_stops_at_the_last_cut_within_the_budget_or_at_the_first(
    start: int, budget: int, stop: int
) -> None:
    assert chunk_stop((1, 2, 6, 7, 8), start, budget) == stop


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(1, 20))
def test_chunks_cover_a_prompt_at_its_cuts_and_exceed_the_budget_only_by_a_span(
    cuts: set[int], budget: int
) -> None:
    ordered = sorted(cuts)
    start = 0
    while start < ordered[-1]:
        stop = chunk_stop(ordered, start, budget)
        assert stop in cuts
        assert stop > start
        inside = [cut for cut in ordered if start < cut < stop]
        assert stop - start <= budget or not inside
        following = [cut for cut in ordered if cut > stop]
        assert stop - start > budget or not following or following[0] - start > budget
        start = stop


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 9)), min_size=1, max_size=20))
def test_order_is_by_virtual_arrival_and_equal_ones_keep_theirs(asked: list[tuple[int, int]]) -> None:
    scheduler = Scheduler(1, 0, 8)
    items = [Item(float(arrived), priority) for arrived, priority in asked]
    for item in items:
        scheduler.add(item)
    assert scheduler.waiting == sorted(items, key=lambda item: item.virtual_arrival_s)


def test_sequence_waits_only_for_urgent_ones_that_arrive_up_to_nine_steps_of_priority_later() -> None:
    simulation = Simulation(Scheduler(1, 0, 64))
    patient = Item(0.0, 0)

    def more(now: float) -> None:
        simulation.add(Item(now, 9))
        simulation.add(Item(now, 9))

    simulation.add(patient)
    simulation.steps_until_admitted(patient, more)
    assert len(simulation.admitted) > MOST_S, "the adversary was too kind for this to mean anything"
    simulation.require_bounded_overtaking()
    assert max(item.arrived_s for item in simulation.admitted) <= MOST_S


def test_sequence_that_needs_many_tokens_is_not_passed_over_by_small_ones() -> None:
    """The small ones always fit, and never stop coming; the big one needs every token there is."""
    simulation = Simulation(Scheduler(4, 60, 64))
    big = Item(3.0, 0, num_prompt_tokens=50, num_new_tokens=10)
    after_big = 0

    def more(now: float) -> None:
        nonlocal after_big
        if now == big.arrived_s:
            simulation.add(big)
        simulation.add(Item(now, 0, num_prompt_tokens=4, num_new_tokens=5))
        after_big += now > big.arrived_s

    steps = simulation.steps_until_admitted(big, more)
    assert after_big > 2
    assert all(item.arrived_s <= big.arrived_s for item in simulation.admitted if item is not big)
    assert steps < 30
    simulation.require_bounded_overtaking()


@given(
    st.integers(1, 4), st.integers(0, 40), st.integers(1, 9),
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 9), st.integers(1, 20), st.integers(1, 6), st.integers(1, 7)),
        min_size=1, max_size=25,
    ),
)  # fmt: skip
def test_everyone_is_admitted_and_overtaken_within_bounds_whatever_arrives(
    num_slots: int, max_tokens: int, chunk_tokens: int, asked: list[tuple[int, int, int, int, int]]
) -> None:
    simulation = Simulation(Scheduler(num_slots, max_tokens, chunk_tokens))
    items = [Item(float(at), *rest) for at, *rest in sorted(asked)]
    for now in range(2000):
        for item in items:
            if item.arrived_s == now:
                simulation.add(item)
        simulation.step()
        if now > 60 and not simulation.scheduler.has_work:
            break
    assert len(simulation.admitted) == len(items)
    assert all(item.num_generated == item.num_new_tokens for item in items)
    simulation.require_bounded_overtaking()


def test_tokens_are_kept_within_their_bound_but_for_one_that_is_alone() -> None:
    scheduler = Scheduler(4, 10, 64)
    big, small = Item(0.0, num_prompt_tokens=20), Item(1.0)
    scheduler.add(big)
    scheduler.add(small)
    assert scheduler.admit() is big
    scheduler.slots.start_decoding()
    assert scheduler.admit() is None
    scheduler.remove(big)
    assert scheduler.admit() is small


def test_tenants_take_turns_for_the_rows_whoever_came_first() -> None:
    simulation = Simulation(Scheduler(1, 0, 64))
    for at in range(10):
        simulation.add(Item(float(at), tenant=Tenant("flood")))
    calm = Item(100.0, tenant=Tenant("calm"))
    simulation.add(calm)
    for _ in range(8):
        simulation.step()
    assert calm in simulation.admitted[:2]


def test_nobody_is_admitted_while_another_is_read_or_without_a_row() -> None:
    scheduler = Scheduler(1, 0, 64)
    first, second = Item(), Item(1.0)
    scheduler.add(first)
    scheduler.add(second)
    assert scheduler.admit() is first
    assert scheduler.admit() is None
    scheduler.slots.start_decoding()
    assert scheduler.admit() is None


def test_span_longer_than_what_is_left_of_a_step_waits_for_a_whole_step() -> None:
    scheduler = Scheduler(1, 0, 8)
    scheduler.add(Item(num_prompt_tokens=20, span=6))
    scheduler.admit()
    assert scheduler.next_chunk(5) is None
    chunk = scheduler.next_chunk(8)
    assert chunk is not None
    assert (chunk.start, chunk.stop) == (0, 6)


def test_span_longer_than_a_whole_step_is_read_whole() -> None:
    scheduler = Scheduler(1, 0, 8)
    scheduler.add(Item(num_prompt_tokens=20, span=20))
    scheduler.admit()
    chunk = scheduler.next_chunk(8)
    assert chunk is not None
    assert chunk.is_last


def test_one_that_leaves_while_it_waits_is_not_admitted_and_moves_nothing() -> None:
    scheduler = Scheduler(1, 0, 8)
    gone, other = Item(), Item(1.0)
    scheduler.add(gone)
    scheduler.add(other)
    assert scheduler.remove(gone) == []
    assert scheduler.admit() is other
