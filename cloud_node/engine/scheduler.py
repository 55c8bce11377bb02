"""Who is admitted next, and which part of a prompt is read next. Pure: no clock, no torch, values in and values out.

Inside a tenant order is by *virtual arrival*: the time of arrival less `priority_s` for every step of priority. It
never changes, so a sequence waits for those alone that arrived before it, or up to 9 `priority_s` after it: nobody
starves. Between tenants `fair_queue` decides. The first in this order is never passed over for one that would fit, or
a long sequence would wait for ever among short ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence as Values
from dataclasses import dataclass
from typing import Protocol

from cloud_node.asked.tenants import Tenant
from cloud_node.engine.fair_queue import FairQueue
from cloud_node.engine.slots import Move, Slots


class Schedulable(Protocol):
    """What the scheduler needs to know of a sequence."""

    @property
    def virtual_arrival_s(self) -> float: ...
    @property
    def tenant(self) -> Tenant: ...
    @property
    def num_prompt_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...  # of the prompt and the answer together
    @property
    def cuts(self) -> Values[int]: ...  # where the prompt may be cut, ascending, its end last

    num_prefilled: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` to `stop` - 1 of a prompt, to be read into a row."""

    sequence: Schedulable
    row: int
    start: int
    stop: int

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start

    @property
    def is_last(self) -> bool:
        return self.stop == self.sequence.num_prompt_tokens


class Scheduler:
    """Sequences wait until a row is free and all tokens that they may come to fit beside those of the others."""

    def __init__(self, num_slots: int, max_tokens: int, chunk_tokens: int) -> None:
        self.slots: Slots[Schedulable] = Slots(num_slots)
        self.max_tokens = max_tokens
        self.chunk_tokens = chunk_tokens
        self._queue: FairQueue[Schedulable] = FairQueue()

    @property
    def waiting(self) -> list[Schedulable]:
        """Those without a row."""
        return list(self._queue)

    @property
    def num_waiting(self) -> int:
        return len(self._queue)

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self.slots.num_used)

    @property
    def has_prompts(self) -> bool:
        """Whether there is a prompt to read, or to go on reading."""
        return bool(self._queue) or self.slots.prefilling is not None

    @property
    def num_tokens(self) -> int:
        """All tokens that those who have a row may come to."""
        reading = [self.slots.prefilling] if self.slots.prefilling is not None else []
        return sum(sequence.max_tokens for sequence in (*self.slots.decoding, *reading))

    def add(self, sequence: Schedulable) -> None:
        """Its tenant pays for it in tokens."""
        self._queue.add(sequence, sequence.max_tokens)

    def remove(self, sequence: Schedulable) -> list[Move]:
        """Takes a sequence out, wherever it is; the moves close the gap that its row leaves."""
        if self._queue.remove(sequence):
            return []
        return self.slots.release(sequence)

    def clear(self) -> None:
        """Nobody waits, and nobody has a row."""
        self._queue.clear()
        self.slots = Slots(self.slots.num_slots)

    def admit(self) -> Schedulable | None:
        """Gives a row to the first that waits, if it has its turn; nobody is read beside another."""
        first = self._queue.first()
        if first is None or self.slots.prefilling is not None or not self.slots.num_free:
            return None
        # One that is alone always fits: its own length is bounded by the rows'.
        if self.max_tokens and self.slots.num_used and self.num_tokens + first.max_tokens > self.max_tokens:
            return None
        self.slots.take(self._queue.take())
        return first

    def next_chunk(self, budget: int) -> Chunk | None:
        """The next part of the prompt that is being read, of at most `budget` tokens where its spans allow it."""
        sequence = self.slots.prefilling
        if sequence is None:
            return None
        start = sequence.num_prefilled
        stop = chunk_stop(sequence.cuts, start, budget)
        if stop - start > budget and budget < self.chunk_tokens:
            return None
        return Chunk(sequence, self.slots.row(sequence), start, stop)


def chunk_stop(cuts: Values[int], start: int, budget: int) -> int:
    """The last cut within the budget; the first after `start` where a span is longer than that."""
    fitting = bisect_right(cuts, start + budget) - 1
    first = bisect_right(cuts, start)
    return cuts[max(fitting, first)]
