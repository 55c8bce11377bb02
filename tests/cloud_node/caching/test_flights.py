"""Flights: who waits for one computation hears all of it, and leaving it harms nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloud_node.asked.sequence import Event, Finished, FinishReason, Sequence, StepTimes, TextDelta
from cloud_node.caching.cache import Answer, Cache
from cloud_node.caching.flights import Flights
from cloud_node.caching.leases import Lease
from cloud_node.caching.store import MemoryStore
from tests.kit.clouds import request_of
from wire.errors import Cancelled, CleaveError, DeadlineExceeded, ModelFailed, Overloaded

KEY = bytes(32)
REQUEST = request_of("What?")
PAYLOAD = (memoryview(b"abcd"),)
FINISHED = Finished(FinishReason.STOP_TOKEN, 7, 2, StepTimes())


class FakeEngine:
    """Takes sequences, and tells of their end at once where it is asked to stop one."""

    def __init__(self) -> None:
        self.submitted: list[Sequence] = []
        self.stopped: list[CleaveError] = []
        self.hastened: list[tuple[Sequence, int]] = []
        self.is_full = False

    def submit(self, sequence: Sequence) -> None:
        if self.is_full:
            raise Overloaded("full", retry_after_s=1.0)
        self.submitted.append(sequence)

    def hasten(self, sequence: Sequence) -> None:
        self.hastened.append((sequence, sequence.request.priority))

    def stop(self, sequence: Sequence, error: CleaveError) -> None:
        self.stopped.append(error)
        sequence.emit(error)


class Desk:
    """Flights over a fake engine, and listeners that note what they hear."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.cache = Cache(MemoryStore(1 << 20, 60))
        self.flights = Flights(self.engine, self.cache)  # type: ignore[arg-type]

    def emit(self, *events: Event) -> None:
        for event in events:
            self.engine.submitted[-1].emit(event)


Test = Callable[[Desk], Coroutine[Any, Any, None]]


def conducted(test: Test) -> Callable[[], None]:
    """A test that runs on a loop, with a desk of its own."""

    def run() -> None:
        async def inside() -> None:
            desk = Desk()
            await test(desk)
            await desk.flights.close()
            assert desk.flights.num_open == 0

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@conducted
async def test_follower_hears_what_was_said_as_one_delta_and_then_what_follows(desk: Desk) -> None:
    leader: list[Event] = []
    follower: list[Event] = []
    desk.flights.start(KEY, REQUEST, PAYLOAD, leader.append)
    desk.emit(TextDelta("a ", 0, 1), TextDelta("b", 1, 2))
    flight = desk.flights.find(KEY)
    assert flight is not None
    desk.flights.join(flight, follower.append)
    desk.emit(TextDelta(" c", 3, 1), FINISHED)
    assert leader == [TextDelta("a ", 0, 1), TextDelta("b", 1, 2), TextDelta(" c", 3, 1), FINISHED]
    assert follower == [TextDelta("a b", 0, 3), TextDelta(" c", 3, 1), FINISHED]
    assert len(desk.engine.submitted) == desk.flights.num_joined == 1


@conducted
async def test_answer_of_a_flight_that_ends_well_is_kept(desk: Desk) -> None:
    desk.flights.start(KEY, REQUEST, PAYLOAD, lambda event: None)
    desk.emit(TextDelta("a ", 0, 1), TextDelta("b", 1, 1), FINISHED)
    await asyncio.sleep(0)
    assert await desk.cache.answer(KEY) == Answer("a b", 2, 7, FinishReason.STOP_TOKEN)
    assert desk.flights.find(KEY) is None


@pytest.mark.parametrize("error", [Cancelled("gone"), DeadlineExceeded("late")], ids=["cancelled", "late"])
def test_followers_go_on_when_the_leader_leaves(error: CleaveError) -> None:
    @conducted
    async def run(desk: Desk) -> None:
        leader: list[Event] = []
        follower: list[Event] = []
        flight = desk.flights.start(KEY, REQUEST, PAYLOAD, leader.append)
        listen = leader.append
        desk.flights.join(flight, follower.append)
        desk.flights.leave(flight, listen, error)
        desk.emit(TextDelta("on", 0, 1), FINISHED)
        assert leader == []
        assert follower == [TextDelta("on", 0, 1), FINISHED]
        assert desk.engine.stopped == []

    run()


@conducted
async def test_engine_is_stopped_when_the_last_has_left_and_nobody_hears_of_it(desk: Desk) -> None:
    heard: list[Event] = []
    others: list[Event] = []
    flight = desk.flights.start(KEY, REQUEST, PAYLOAD, heard.append)
    desk.flights.join(flight, others.append)
    desk.flights.leave(flight, heard.append, Cancelled("first"))
    last = DeadlineExceeded("last")
    desk.flights.leave(flight, others.append, last)
    assert desk.engine.stopped == [last]
    assert heard == others == []
    assert desk.flights.num_open == 0
    assert desk.flights.find(KEY) is None


@conducted
async def test_what_a_stopped_flight_still_says_is_neither_told_nor_kept(desk: Desk) -> None:
    heard: list[Event] = []
    desk.engine.stop = lambda sequence, error: None  # type: ignore[method-assign]
    flight = desk.flights.start(KEY, REQUEST, PAYLOAD, heard.append)
    desk.flights.leave(flight, heard.append, Cancelled("gone"))
    desk.emit(TextDelta("late", 0, 1), FINISHED)
    await asyncio.sleep(0)
    assert heard == []
    assert await desk.cache.answer(KEY) is None


@conducted
async def test_equal_request_after_all_have_left_starts_a_flight_of_its_own(desk: Desk) -> None:
    heard: list[Event] = []
    desk.engine.stop = lambda sequence, error: None  # type: ignore[method-assign]
    old = desk.flights.start(KEY, REQUEST, PAYLOAD, heard.append)
    desk.flights.leave(old, heard.append, Cancelled("gone"))
    desk.flights.start(KEY, REQUEST, PAYLOAD, heard.append)
    desk.engine.submitted[0].emit(Cancelled("gone"))
    assert heard == []
    assert desk.flights.find(KEY) is not None
    desk.emit(FINISHED)
    assert heard == [FINISHED]


@conducted
async def test_failure_reaches_all_who_wait_and_is_not_kept(desk: Desk) -> None:
    leader: list[Event] = []
    follower: list[Event] = []
    flight = desk.flights.start(KEY, REQUEST, PAYLOAD, leader.append)
    desk.flights.join(flight, follower.append)
    error = ModelFailed("broken")
    desk.emit(error)
    await asyncio.sleep(0)
    assert leader == follower == [error]
    assert await desk.cache.answer(KEY) is None


@conducted
async def test_flight_without_a_key_is_never_found_nor_kept(desk: Desk) -> None:
    heard: list[Event] = []
    for _ in range(2):
        desk.flights.start(None, REQUEST, PAYLOAD, heard.append)
        assert desk.flights.find(None) is None
    assert desk.flights.num_open == 2
    for sequence in desk.engine.submitted:
        sequence.emit(FINISHED)
    assert heard == [FINISHED, FINISHED]
    assert not desk.flights._keeping


@conducted
async def test_full_engine_leaves_no_flight(desk: Desk) -> None:
    desk.engine.is_full = True
    with pytest.raises(Overloaded):
        desk.flights.start(KEY, REQUEST, PAYLOAD, lambda event: None)
    assert desk.flights.num_open == 0
    assert desk.flights.find(KEY) is None


@conducted
async def test_listener_that_leaves_while_it_hears_takes_no_other_with_it(desk: Desk) -> None:
    follower: list[Event] = []

    def leaves(event: Event) -> None:
        desk.flights.leave(flight, leaves, Cancelled("enough"))

    flight = desk.flights.start(KEY, REQUEST, PAYLOAD, leaves)
    desk.flights.join(flight, follower.append)
    desk.emit(TextDelta("a", 0, 1), TextDelta("b", 1, 1), FINISHED)
    assert follower == [TextDelta("a", 0, 1), TextDelta("b", 1, 1), FINISHED]
    assert desk.engine.stopped == []


@conducted
async def test_flight_is_as_urgent_as_the_most_urgent_who_waits(desk: Desk) -> None:
    flight = desk.flights.start(KEY, REQUEST, PAYLOAD, lambda event: None)
    for priority in (0, 9, 5):
        desk.flights.join(flight, lambda event: None, priority=priority)
    assert desk.engine.hastened == [(desk.engine.submitted[0], 9)]
    desk.emit(FINISHED)


class OtherCloud(Cache):
    """Another cloud has the lease, and takes as long as it may."""

    is_shared = True
    waited_s = 0.0

    async def answer_elsewhere(self, key: bytes, most_s: float) -> Answer | Lease | None:
        self.waited_s = most_s
        return None


def test_wait_for_another_cloud_takes_half_of_what_is_left() -> None:
    @conducted
    async def run(desk: Desk) -> None:
        cache = OtherCloud(MemoryStore(1 << 20, 60))
        flights = Flights(desk.engine, cache)  # type: ignore[arg-type]
        left_s = REQUEST.deadline_s / 10
        ends_s = time.monotonic() + left_s
        flight = flights.start(KEY, REQUEST, PAYLOAD, lambda event: None, ends_s)
        # Whoever joins meanwhile is told of to the engine when it gets it.
        flights.join(flight, lambda event: None, ends_s, priority=9)
        assert flight.turn is not None
        await flight.turn
        assert left_s / 4 < cache.waited_s <= left_s / 2
        assert [one.request.priority for one in desk.engine.submitted] == [9]
        assert desk.engine.hastened == []
        desk.emit(FINISHED)

    run()
