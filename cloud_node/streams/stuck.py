"""Notices an edge that takes nothing of what it is told: flow control would hold its call up for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Stuck:
    """Between `offered` and `taken` at most `limit_s` may pass; then `give_up` is called, once."""

    def __init__(self, limit_s: float, give_up: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None  # on the loop's clock: from when on a message waits to be taken
        self._timer: asyncio.TimerHandle | None = None

    def offered(self) -> None:
        self._since_s = self._loop.time()
        # One timer for all messages: it looks how long the last one has waited.
        if self._timer is None:
            self._timer = self._loop.call_at(self._since_s + self._limit_s, self._look)

    def taken(self) -> None:
        self._since_s = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._since_s is None:
            return
        if self._loop.time() < (due_s := self._since_s + self._limit_s):
            self._timer = self._loop.call_at(due_s, self._look)
            return
        self._give_up()
