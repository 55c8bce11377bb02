"""How busy the cloud is, told to its edges where it has changed much, and no more often than every `load_every_s`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from cloud_node.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Load:
    """Of all models together."""

    queued: int = 0  # requests that wait
    active: int = 0  # sequences that have a row
    slots: int = 0

    @property
    def is_idle(self) -> bool:
        return not self.queued and not self.active


class Hearer(Protocol):
    """A stream."""

    def hear_load(self, load: Load) -> None: ...


def load_of(engines: Iterable[Engine]) -> Load:
    each = [(one.num_waiting, one.num_running, one.settings.num_slots) for one in engines]
    return Load(*(sum(column) for column in zip(*each, strict=True))) if each else Load()


def has_changed_much(told: Load, now: Load) -> bool:
    """A quarter of the slots were taken or left, the queue is half as long again or shorter, or all is idle at last."""
    much = max(1, now.slots // 4)
    if now.is_idle:
        return not told.is_idle
    return abs(now.active - told.active) >= much or abs(now.queued - told.queued) >= max(
        much, told.queued / 2
    )


async def tell_load(
    read: Callable[[], Load], hearers: Callable[[], Iterable[Hearer]], every_s: float
) -> None:
    """Until it is cancelled; each hearer says by itself what it tells its edge."""
    while True:
        await asyncio.sleep(every_s)
        load = read()
        for hearer in tuple(hearers()):
            hearer.hear_load(load)
