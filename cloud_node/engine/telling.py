"""Events on their way to the loop: the tokens of a few milliseconds go together, and what is urgent goes at once.

Waking the loop's thread costs the stepping thread the interpreter: with a small decoder, as long as half a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from cloud_node.asked.sequence import Event, Sequence, TextDelta

Events = list[tuple[Sequence, Event]]


class Telling:
    """Collects events in order; deltas of one sequence with nothing between them become one."""

    def __init__(self, tell: Callable[[Events], None], every_s: float) -> None:
        self._tell = tell
        self._every_s = every_s
        self._told_s = 0.0
        self._events: Events = []
        self._last: dict[Sequence, int] = {}  # where each sequence's last event is, if that is a delta
        self._is_urgent = False

    def add(self, sequence: Sequence, event: Event) -> None:
        """The first token of an answer is urgent, and so is its end."""
        if not isinstance(event, TextDelta) or event.token_index == 0:
            self._is_urgent = True
        at = self._last.get(sequence)
        if at is not None and isinstance(event, TextDelta):
            before = self._events[at][1]
            assert isinstance(before, TextDelta)
            merged = replace(
                before, text=before.text + event.text, num_tokens=before.num_tokens + event.num_tokens
            )
            self._events[at] = (sequence, merged)
            return
        if isinstance(event, TextDelta):
            self._last[sequence] = len(self._events)
        else:
            self._last.pop(sequence, None)
        self._events.append((sequence, event))

    def flush(self, is_urgent: bool = False) -> None:
        """Tells what there is, if something is urgent or it is time."""
        now = time.monotonic()
        if self._events and (is_urgent or self._is_urgent or now - self._told_s >= self._every_s):
            events, self._events, self._last = self._events, [], {}
            self._told_s, self._is_urgent = now, False
            self._tell(events)
