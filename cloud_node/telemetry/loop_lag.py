"""How late the event loop comes to what is due: the sign that something holds up every stream at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Often enough to meet a hold-up of that length, and nothing beside what the loop does anyway.
EVERY_S = 0.25


class LoopLag:
    """Tells how late each of its timers went off, from now until it is closed. Made on the loop that it watches."""

    def __init__(self, tell: Callable[[float], None], every_s: float = EVERY_S) -> None:
        self._tell = tell
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._due_s = 0.0
        self._timer = self._next()

    def close(self) -> None:
        self._timer.cancel()

    def _next(self) -> asyncio.TimerHandle:
        self._due_s = self._loop.time() + self._every_s
        return self._loop.call_at(self._due_s, self._went_off)

    def _went_off(self) -> None:
        # A timer may go off within the clock's resolution before it is due.
        self._tell(max(0.0, self._loop.time() - self._due_s))
        self._timer = self._next()
