"""Before the engine: who may wait, who has to make way, who goes in next, and who would come out too late. Pure.

It knows those that wait and those that were taken up and have not ended; whoever uses it guards it against threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Values
from dataclasses import dataclass

from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Sequence
from cloud_node.engine.admission import Others, Pace, queue_full, too_late, wait_s
from cloud_node.engine.fair_queue import FairQueue
from wire.errors import Overloaded


@dataclass(frozen=True, slots=True)
class Places:
    """How many may wait, and how many run at once."""

    max_queue: int
    num_slots: int
    sheds_late: bool = True


class WaitingRoom:
    """Sequences from their submission to their end. Times are of one monotonic clock; `spread` is 0 to 1, by chance."""

    def __init__(self, places: Places, pace: Pace) -> None:
        self._places = places
        self._pace = pace
        self._queue: FairQueue[Sequence] = FairQueue()
        self._in_hand: set[Sequence] = set()  # taken up and not ended

    @property
    def num_queued(self) -> int:
        """Those that nobody has taken up."""
        return len(self._queue)

    def check(self, request: Request, left_s: float, virtual_arrival_s: float, spread: float) -> float:
        """The seconds that a request would take; raises Overloaded where it would be refused. It takes no place."""
        if self._is_full and self._queue.who_makes_way(request.tenant) is None:
            raise queue_full(self._num_waiting, self._pace.work_s(self._likely_tokens(request)), spread)
        predicted_s = self._predicted_s(request, virtual_arrival_s, self._all())
        is_tried = self._has_free_row and self._pace.is_tried(request.tenant.name, spread)
        if self._sheds and (self._queue or self._in_hand) and not is_tried:
            refused = too_late(self._pace.corrected(predicted_s, has_margin=True), left_s, spread)
            if refused is not None:
                raise refused
        return predicted_s

    def enter(self, sequence: Sequence, now_s: float, spread: float) -> tuple[Sequence, Overloaded] | None:
        """Queues a sequence, or raises as `check` does; whoever has to make way for it, and what that is told."""
        request = sequence.request
        left_s = sequence.deadline_at_s - now_s
        predicted_s = self.check(request, left_s, sequence.virtual_arrival_s, spread)
        # What is predicted before anything is measured tells nothing of how good predictions are.
        sequence.predicted_s = 0.0 if self._pace.is_cold else predicted_s
        refused = None
        if self._is_full and (last := self._queue.who_makes_way(request.tenant)) is not None:
            self._queue.remove(last)
            refused = last, queue_full(self._places.max_queue, self._work_s(last), spread)
        self._queue.add(sequence, self._cost(request))
        return refused

    def take(
        self, most: int, most_bytes: int, now_s: float, spread: float
    ) -> tuple[list[Sequence], list[tuple[Sequence, Overloaded]]]:
        """Takes up the next ones, as many as there is memory for; beside them, those for whom it is too late by now.

        Whoever is alone is always taken: nothing is ahead of it, and what it takes sets a wrong prediction right.
        """
        taken: list[Sequence] = []
        refused: list[tuple[Sequence, Overloaded]] = []
        num_bytes = 0
        while len(taken) < most and (sequence := self._queue.first()) is not None:
            is_tried = len(self._in_hand) < self._places.num_slots and self._pace.is_tried(
                sequence.request.tenant.name, spread
            )
            error = None
            if self._in_hand and not is_tried:
                error = self._too_late_by_now(sequence, now_s, spread)
            if error is not None:
                self._queue.remove(sequence)
                refused.append((sequence, error))
                continue
            num_bytes += sequence.request.decoded_bytes
            if taken and num_bytes > most_bytes:
                break
            taken.append(self._queue.take())
            self._in_hand.add(sequence)
        return taken, refused

    def hasten(self, sequence: Sequence, virtual_arrival_s: float) -> None:
        """It has its turn sooner, as long as it waits."""
        if virtual_arrival_s < sequence.virtual_arrival_s and sequence in self._queue:
            sequence.virtual_arrival_s = virtual_arrival_s
            self._queue.reorder(sequence.tenant)

    def give_up(self, sequence: Sequence) -> bool:
        """It waits no longer; False where it was taken up already."""
        return self._queue.remove(sequence)

    def leave(self, sequence: Sequence) -> None:
        """It has ended."""
        self._in_hand.discard(sequence)

    @property
    def _sheds(self) -> bool:
        return self._places.sheds_late and not self._pace.is_cold

    @property
    def _has_free_row(self) -> bool:
        return len(self._queue) + len(self._in_hand) < self._places.num_slots

    @property
    def _is_full(self) -> bool:
        # Counted only where it may be so.
        most = self._places.max_queue
        return len(self._queue) + len(self._in_hand) >= most and self._num_waiting >= most

    @property
    def _num_waiting(self) -> int:
        return len(self._queue) + sum(not one.has_row for one in self._in_hand)

    def _all(self) -> Iterator[Sequence]:
        yield from self._queue
        yield from self._in_hand

    def _too_late_by_now(self, sequence: Sequence, now_s: float, spread: float) -> Overloaded | None:
        """Without a margin: its payloads have come, and it has waited."""
        if not self._sheds:
            return None
        predicted_s = self._predicted_s(sequence.request, sequence.virtual_arrival_s, self._in_hand)
        finish_s = self._pace.corrected(predicted_s, has_margin=False)
        return too_late(finish_s, sequence.deadline_at_s - now_s, spread)

    def _predicted_s(self, request: Request, virtual_arrival_s: float, before: Iterable[Sequence]) -> float:
        """Until it is done, among those that were there before."""
        pace, tenant = self._pace, request.tenant
        own_tokens = self._likely_tokens(request)
        ahead_s, others, with_row = 0.0, dict[str, Others](), list[Sequence]()
        works: dict[tuple[str, int, int], float] = {}  # most of those that wait are alike
        for one in before:
            if one.has_row:
                with_row.append(one)
                continue
            theirs = one.request.tenant
            if theirs.name == tenant.name and one.virtual_arrival_s > virtual_arrival_s:
                continue
            kind = (theirs.name, *one.request.token_bounds)
            if (work_s := works.get(kind)) is None:
                work_s = works[kind] = self._work_s(one)
            if theirs.name == tenant.name:
                ahead_s += work_s
            else:
                so_far = others[theirs.name].work_s if theirs.name in others else 0.0
                others[theirs.name] = Others(so_far + work_s, theirs.share)
        turn_s = wait_s(ahead_s, pace.work_s(own_tokens), tenant.share, others.values())
        return turn_s + self._row_wait_s(with_row) + pace.own_s(own_tokens)

    def _row_wait_s(self, with_row: Values[Sequence]) -> float:
        """Until one of these has ended, where they have all rows."""
        if len(with_row) < self._places.num_slots:
            return 0.0
        left = min(self._likely_tokens(one.request) - one.num_generated for one in with_row)
        return max(1.0, left) * self._pace.token_gap_s.value

    def _likely_tokens(self, request: Request) -> float:
        return self._pace.likely_tokens(request.tenant.name, *request.token_bounds)

    def _work_s(self, sequence: Sequence) -> float:
        return self._pace.work_s(self._likely_tokens(sequence.request))

    def _cost(self, request: Request) -> float:
        """What its tenant pays, in typical requests."""
        typical_s = self._pace.work_s(self._pace.num_tokens.value)
        return self._pace.work_s(self._likely_tokens(request)) / typical_s if typical_s else 1.0
