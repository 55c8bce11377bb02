"""The waiting room with a simulated server behind it: who is refused, who makes way, and that it always recovers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from cloud_node.asked.sequence import Sequence
from cloud_node.asked.settings import Settings
from cloud_node.asked.tenants import ANYBODY, Tenant
from cloud_node.engine.admission import Pace
from cloud_node.engine.waiting_room import Places, WaitingRoom
from tests.kit.clouds import request_of
from wire.errors import Overloaded

CALM, FLOOD = Tenant("calm"), Tenant("flood")
SERVICE_S = 0.03


def sequence_of(
    now_s: float = 0.0, deadline_s: float = 60.0, tenant: Tenant = ANYBODY, **changes: Any
) -> Sequence:
    request = request_of("What?", deadline_s=deadline_s, tenant=tenant, **changes)
    made = Sequence(request, (), lambda _: None, arrived_s=now_s, deadline_at_s=now_s + deadline_s)
    made.virtual_arrival_s = now_s
    return made


@dataclass
class Server:
    """Serves one after the other, each in `service_s` on the average, and tells the pace what it measures."""

    deadline_s: float
    service_s: float = SERVICE_S
    pace: Pace = field(default_factory=Pace)
    places: Places = field(default_factory=lambda: Places(max_queue=64, num_slots=16))

    def __post_init__(self) -> None:
        self.room = WaitingRoom(self.places, self.pace)
        self.draw = random.Random(0)
        self.now_s = 0.0
        self.free_s = 0.0
        self.num_arrived = self.num_in_time = self.num_refused = self.num_in_vain = 0

    def run(self, load: float, seconds: float) -> float:
        """Requests per second that were answered in time, at a load of so many times what it can serve."""
        before, until_s = self.num_in_time, self.now_s + seconds
        while (at_s := self.now_s + self.draw.expovariate(load / self.service_s)) < until_s:
            self._serve(at_s)
            self.now_s = at_s
            self.num_arrived += 1
            try:
                self.room.enter(sequence_of(at_s, self.deadline_s), at_s, 0.5)
            except Overloaded:
                self.num_refused += 1
        self._serve(until_s)
        self.now_s = until_s
        return (self.num_in_time - before) / seconds

    def _serve(self, until_s: float) -> None:
        while self.free_s < until_s:
            taken, refused = self.room.take(1, 1 << 30, self.free_s, 0.5)
            self.num_refused += len(refused)
            if not taken:
                self.free_s = until_s
                return
            (one,) = taken
            start_s = max(self.free_s, one.arrived_s)
            took_s = self.service_s * self.draw.uniform(0.5, 1.5)
            self.free_s = min(start_s + took_s, max(start_s, one.deadline_at_s))
            self.room.leave(one)
            self.pace.prepared(1, took_s)
            is_late = start_s + took_s > one.deadline_at_s
            self.pace.ended(one.predicted_s, self.free_s - one.arrived_s, is_late=is_late)
            self.num_in_vain += is_late
            self.num_in_time += not is_late


def test_goodput_at_three_times_the_load_is_near_its_maximum_and_the_rest_is_refused() -> None:
    server = Server(8 * SERVICE_S)
    goodputs = [server.run(load, 60.0) for load in (0.5, 0.8, 1.0, 1.5, 3.0)]
    assert goodputs[-1] >= 0.9 * max(goodputs) >= 0.9 * 0.85 / SERVICE_S
    assert server.num_in_vain <= 0.05 * server.num_refused


def test_without_shedding_nearly_all_of_it_is_lost() -> None:
    """So that the test above can fail."""
    server = Server(8 * SERVICE_S, places=Places(max_queue=64, num_slots=16, sheds_late=False))
    assert server.run(3.0, 60.0) < 0.3 / SERVICE_S


@pytest.mark.parametrize("wrong", [0.01, 100.0])
def test_server_that_is_suddenly_quicker_or_slower_is_used_in_full_again(wrong: float) -> None:
    server = Server(8 * SERVICE_S, service_s=SERVICE_S * wrong)
    server.run(1.0, 200 * SERVICE_S * wrong)
    server.service_s = SERVICE_S
    server.run(3.0, 10.0)
    assert server.run(3.0, 30.0) >= 0.8 / SERVICE_S


def test_pace_that_was_learnt_wrong_altogether_is_unlearnt() -> None:
    pace = Pace()
    for _ in range(100):
        pace.prepared(1, 1000.0)
        pace.ended(1.0, 1000.0)
    server = Server(8 * SERVICE_S, pace=pace)
    server.run(1.5, 30.0)
    assert server.run(3.0, 30.0) >= 0.8 / SERVICE_S


def test_nothing_is_refused_for_time_that_has_enough_of_it() -> None:
    server = Server(100.0)
    server.run(0.7, 60.0)
    assert (server.num_refused, server.num_in_vain) == (0, 0)
    assert server.num_arrived > 1000


def slow_room(num_slots: int = 16, max_queue: int = 64, **changes: Any) -> WaitingRoom:
    """Of a server that is known to need 10 s for anything."""
    pace = Pace()
    for _ in range(20):
        pace.prepared(1, 10.0)
        pace.ended(10.0, 10.0)
    return WaitingRoom(Places(max_queue, num_slots, **changes), pace)


def test_cold_server_lets_in_all() -> None:
    room = WaitingRoom(Places(64, 16), Pace())
    for _ in range(64):
        room.enter(sequence_of(deadline_s=0.001), 0.0, 0.5)


def test_idle_server_lets_in_what_looks_hopeless_and_takes_it_up() -> None:
    room = slow_room()
    hopeless = sequence_of(deadline_s=0.1)
    room.enter(hopeless, 0.0, 0.5)
    assert room.take(8, 1 << 30, 0.05, 0.5) == ([hopeless], [])


def test_what_cannot_be_done_in_time_is_refused_at_the_check_and_takes_no_place() -> None:
    room = slow_room()
    room.enter(sequence_of(), 0.0, 0.5)
    with pytest.raises(Overloaded, match="about 20 s"):
        room.check(sequence_of().request, 15.0, 0.0, 0.5)
    room.check(sequence_of().request, 25.0, 0.0, 0.5)
    assert room.num_queued == 1


def test_what_has_become_too_late_in_the_queue_is_refused_when_it_would_be_taken_up() -> None:
    room = slow_room()
    first, second = sequence_of(), sequence_of(deadline_s=25.0)
    for one in (first, second):
        room.enter(one, 0.0, 0.5)
    taken, _ = room.take(1, 1 << 30, 0.0, 0.5)
    assert taken == [first]
    taken, refused = room.take(1, 1 << 30, 14.0, 0.5)
    assert taken == []
    assert [one for one, _ in refused] == [second]
    assert room.num_queued == 0


def test_nothing_is_refused_for_time_where_that_is_switched_off() -> None:
    room = slow_room(sheds_late=False)
    for _ in range(5):
        room.enter(sequence_of(deadline_s=0.1), 0.0, 0.5)
    assert len(room.take(5, 1 << 30, 5.0, 0.5)[0]) == 5


def test_flood_of_one_tenant_makes_no_other_too_late() -> None:
    room = slow_room()
    for _ in range(5):
        room.enter(sequence_of(deadline_s=100.0, tenant=FLOOD), 0.0, 0.5)
    with pytest.raises(Overloaded):
        room.enter(sequence_of(deadline_s=45.0, tenant=FLOOD), 0.0, 0.5)
    room.enter(sequence_of(deadline_s=45.0, tenant=CALM), 0.0, 0.5)
    taken, _ = room.take(2, 1 << 30, 0.0, 0.5)
    assert CALM in [one.tenant for one in taken]


def test_predictions_of_a_cold_server_are_not_held_against_it() -> None:
    room = WaitingRoom(Places(64, 16), Pace())
    early = sequence_of()
    room.enter(early, 0.0, 0.5)
    assert early.predicted_s == 0
    room._pace.ended(early.predicted_s, 100.0)
    assert room._pace.lateness.count == 0


def test_short_answers_of_one_tenant_are_not_shut_out_by_the_long_ones_of_another() -> None:
    room = WaitingRoom(Places(64, 16), Pace())
    for _ in range(20):
        room._pace.answered(FLOOD.name, 0, 256, 255 * 0.1)
        room._pace.ended(25.6, 25.6)
    room.enter(sequence_of(tenant=FLOOD, settings=Settings(256)), 0.0, 0.5)
    soon = {"deadline_s": 3.0, "settings": Settings(256)}
    room.enter(sequence_of(tenant=CALM, **soon), 0.0, 0.5)  # nobody knows how long its answers are
    room._pace.answered(CALM.name, 0, 5, 4 * 0.1)
    room.enter(sequence_of(tenant=CALM, **soon), 0.0, 0.5)
    with pytest.raises(Overloaded):
        room.enter(sequence_of(tenant=FLOOD, **soon), 0.0, 0.5)
    room.enter(
        sequence_of(tenant=FLOOD, **soon), 0.0, 0.0
    )  # one in a hundred: its answers may be short by now


def test_tenant_that_floods_fills_its_share_of_the_queue_and_makes_way_for_others() -> None:
    room = WaitingRoom(Places(8, 16), Pace())
    flood = [sequence_of(float(at), tenant=FLOOD) for at in range(8)]
    for one in flood:
        room.enter(one, 0.0, 0.5)
    with pytest.raises(Overloaded, match="8 requests are waiting"):
        room.enter(sequence_of(tenant=FLOOD), 0.0, 0.5)
    gone = [room.enter(sequence_of(tenant=CALM), 0.0, 0.5) for _ in range(4)]
    assert [one[0] for one in gone if one] == flood[:3:-1]
    with pytest.raises(Overloaded):
        room.enter(sequence_of(tenant=CALM), 0.0, 0.5)
    assert room.num_queued == 8


def test_urgent_request_of_a_tenant_waits_for_none_of_its_patient_ones() -> None:
    room = slow_room()
    for _ in range(5):
        room.enter(sequence_of(), 0.0, 0.5)
    urgent = sequence_of(deadline_s=15.0)
    urgent.virtual_arrival_s = -45.0
    room.enter(urgent, 0.0, 0.5)
    assert room.take(1, 1 << 30, 0.0, 0.5)[0] == [urgent]


def test_only_as_much_is_taken_up_as_there_is_memory_for_and_never_nothing() -> None:
    room = WaitingRoom(Places(64, 16), Pace())
    item_bytes = 3 * 64 * 48
    asked = [sequence_of() for _ in range(5)]
    for one in asked:
        room.enter(one, 0.0, 0.5)
    assert room.take(8, 2 * item_bytes, 0.0, 0.5)[0] == asked[:2]
    assert room.take(8, 1, 0.0, 0.5)[0] == asked[2:3]


def test_those_with_all_the_rows_are_waited_for_and_those_with_some_are_not() -> None:
    def check(num_slots: int) -> float:
        room = slow_room(num_slots)
        for _ in range(20):
            room._pace.answered("", 0, 8, 7 * 1.0)
        for _ in range(2):
            running = sequence_of()
            room.enter(running, 0.0, 0.5)
            room.take(1, 1 << 30, 0.0, 0.5)
            running.prefill_from_s, running.num_generated = 1.0, 5
        return room.check(sequence_of().request, 1000.0, 0.0, 0.5)

    assert check(num_slots=2) == pytest.approx(check(num_slots=3) + 3.0)


def test_one_that_has_become_urgent_goes_before_others_as_long_as_it_waits() -> None:
    room = WaitingRoom(Places(64, 16), Pace())
    asked = [sequence_of(float(now)) for now in range(4)]
    for one in asked:
        room.enter(one, 10.0, 0.5)
    room.hasten(asked[3], -45.0)
    room.hasten(asked[3], 99.0)  # never later
    assert room.take(2, 1 << 30, 10.0, 0.5)[0] == [asked[3], asked[0]]
    room.hasten(asked[0], -99.0)  # taken up: the batch has its order
    assert asked[0].virtual_arrival_s == 0.0
    assert room.take(2, 1 << 30, 10.0, 0.5)[0] == asked[1:3]
