"""How busy the cloud is with a tenant, told to its edges where it has changed much, at most every `load_every_s`.

Of one tenant: what others ask would tell when they are at work. That the machine is full shows in how much of its own
waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cloud_node.asked.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Load:
    """Of one tenant, in all models together."""

    queued: int = 0  # its requests that wait
    active: int = 0  # its sequences that have a row
    slots: int = 0  # rows that there are, for all tenants

    @property
    def is_idle(self) -> bool:
        return not self.queued and not self.active


@dataclass(frozen=True, slots=True)
class Loads:
    """Of all tenants, by name."""

    slots: int = 0
    busy: Mapping[str, Load] = field(default_factory=dict)

    def of(self, tenant: str) -> Load:
        return self.busy.get(tenant) or Load(slots=self.slots)


class Hearer(Protocol):
    """A stream."""

    def hear_load(self, loads: Loads) -> None: ...


def loads_of(sequences: Iterable[Sequence], slots: int) -> Loads:
    """Of the sequences that are open."""
    active, queued = Counter[str](), Counter[str]()
    for one in sequences:
        (active if one.has_row else queued)[one.tenant.name] += 1
    return Loads(slots, {name: Load(queued[name], active[name], slots) for name in active | queued})


def has_changed_much(told: Load, now: Load) -> bool:
    """A quarter of the slots were taken or left, the queue is half as long again or shorter, or all is idle at last."""
    much = max(1, now.slots // 4)
    if now.is_idle:
        return not told.is_idle
    return abs(now.active - told.active) >= much or abs(now.queued - told.queued) >= max(
        much, told.queued / 2
    )


async def tell_load(
    read: Callable[[], Loads], hearers: Callable[[], Iterable[Hearer]], every_s: float
) -> None:
    """Until it is cancelled; each hearer says by itself what it tells its edge."""
    while True:
        await asyncio.sleep(every_s)
        loads = read()
        for hearer in tuple(hearers()):
            hearer.hear_load(loads)
