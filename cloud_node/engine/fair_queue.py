"""Whose turn it is among tenants that wait for the same thing. Pure: no clock, values in and values out.

Inside a tenant, order is by virtual arrival. Between tenants it is by stride (Waldspurger and Weihl, 1995; for packets,
start-time fair queueing): whoever has its turn pays the cost of what it took, divided by its share, and the one that
has paid least is next. A tenant that comes back after a pause has saved up nothing, so that it can wrong nobody; one
that floods waits behind itself. With one tenant the order is that of virtual arrival, alone.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from cloud_node.asked.tenants import Tenant


class Waiting(Protocol):
    """What the queue needs to know of those that wait."""

    @property
    def virtual_arrival_s(self) -> float: ...
    @property
    def tenant(self) -> Tenant: ...


T = TypeVar("T", bound=Waiting)


@dataclass(slots=True)
class _Entry(Generic[T]):
    item: T
    cost: float


@dataclass(slots=True)
class _Lane(Generic[T]):
    """One tenant's. `paid` is what it took so far, on the queue's scale: cost by share."""

    share: float
    paid: float
    entries: list[_Entry[T]] = field(default_factory=list)  # by virtual arrival


class FairQueue(Generic[T]):
    """Those that wait; every tenant that does has its part of what is taken."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}
        self._paid = 0.0  # of the lane that had its turn last
        self._num = 0

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[T]:
        """Tenant by tenant; of each, in order."""
        return (entry.item for lane in self._lanes.values() for entry in lane.entries)

    def __contains__(self, item: object) -> bool:
        return any(one is item for one in self)

    def reorder(self, tenant: Tenant) -> None:
        """After the virtual arrival of one of this tenant's has changed."""
        self._lanes[tenant.name].entries.sort(key=_virtual_arrival_s)

    def num_of(self, tenant: Tenant) -> int:
        lane = self._lanes.get(tenant.name)
        return len(lane.entries) if lane is not None else 0

    def add(self, item: T, cost: float) -> None:
        """`cost` is what the item takes when it has its turn, in any unit, above 0."""
        assert cost > 0
        lane = self._lanes.get(item.tenant.name)
        if lane is None:
            lane = self._lanes[item.tenant.name] = _Lane(item.tenant.share, self._paid)
        lane.share = item.tenant.share
        insort(lane.entries, _Entry(item, cost), key=_virtual_arrival_s)
        self._num += 1

    def first(self) -> T | None:
        """Who has its turn."""
        lane = self._next()
        return lane.entries[0].item if lane is not None else None

    def take(self) -> T:
        """Takes out whoever has its turn, and charges its tenant."""
        lane = self._next()
        assert lane is not None, "nobody waits"
        entry = lane.entries.pop(0)
        self._paid = lane.paid
        lane.paid += entry.cost / lane.share
        self._leave()
        return entry.item

    def remove(self, item: T) -> bool:
        """Takes out one that gave up, and charges nothing; False where it does not wait."""
        lane = self._lanes.get(item.tenant.name)
        if lane is None:
            return False
        kept = [entry for entry in lane.entries if entry.item is not item]
        if len(kept) == len(lane.entries):
            return False
        lane.entries = kept
        self._leave()
        return True

    def clear(self) -> None:
        self._lanes.clear()
        self._num, self._paid = 0, 0.0

    def who_makes_way(self, tenant: Tenant) -> T | None:
        """Where there is no room for one more of this tenant: the last of the tenant that is furthest over its share.

        None where that is the newcomer's own, or would be with it: then it is the newcomer who has to go.
        """
        fullest = max(self._lanes.values(), key=_length_by_share, default=None)
        if fullest is None or _length_by_share(fullest) <= (self.num_of(tenant) + 1) / tenant.share:
            return None
        return fullest.entries[-1].item

    def _next(self) -> _Lane[T] | None:
        """Among equals, whoever arrived first."""
        waiting = [lane for lane in self._lanes.values() if lane.entries]
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda lane: (lane.paid, _virtual_arrival_s(lane.entries[0])))

    def _leave(self) -> None:
        """One has left. Of a tenant that waits no more, what it paid is kept only as long as it counts."""
        self._num -= 1
        if not self._num:
            self.clear()
            return
        gone = [name for name, lane in self._lanes.items() if not lane.entries and lane.paid <= self._paid]
        for name in gone:
            del self._lanes[name]


def _virtual_arrival_s(entry: _Entry[T]) -> float:
    return entry.item.virtual_arrival_s


def _length_by_share(lane: _Lane[T]) -> float:
    return len(lane.entries) / lane.share
