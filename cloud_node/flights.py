"""Answers on their way: one computation in the engine, and all who wait for it.

A flight is open from its submission until its end, or until the last who waited for it has left. Equal
requests find it by their answer's key. All methods run on the engine's loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from cloud_node.cache import Answer, Cache
from cloud_node.engine import Engine
from cloud_node.request import Request
from cloud_node.sequence import Event, Finished, Sequence, TextDelta
from wire.errors import CleaveError

Listen = Callable[[Event], None]


@dataclass(slots=True, eq=False)
class Flight:
    """One computation. `text` is what it has said so far; only a flight with a key can be joined."""

    key: bytes | None
    listeners: list[Listen]
    sequence: Sequence | None = None
    text: list[str] = field(default_factory=list)
    num_tokens: int = 0


class Flights:
    """The engine's face to the streams. `num_joined` counts the requests that waited for another's answer."""

    def __init__(self, engine: Engine, cache: Cache) -> None:
        self._engine = engine
        self._cache = cache
        self._open: set[Flight] = set()
        self._by_key: dict[bytes, Flight] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self.num_joined = 0

    @property
    def num_open(self) -> int:
        return len(self._open)

    def find(self, key: bytes | None) -> Flight | None:
        """The open flight that makes the answer of this key."""
        return self._by_key.get(key) if key is not None else None

    def start(
        self,
        key: bytes | None,
        request: Request,
        payloads: tuple[memoryview, ...],
        listen: Listen,
        deadline_at_s: float = math.inf,
    ) -> Flight:
        """Submits a request; raises Overloaded where the engine takes no more, and no flight is left then."""
        assert self.find(key) is None
        flight = Flight(key, [listen])
        flight.sequence = Sequence(
            request, payloads, lambda event: self._hear(flight, event), deadline_at_s=deadline_at_s
        )
        self._open.add(flight)
        if key is not None:
            self._by_key[key] = flight
        try:
            self._engine.submit(flight.sequence)
        except CleaveError:
            self._close(flight)
            raise
        return flight

    def check(self, request: Request) -> None:
        """Raises Overloaded where a request would be refused that is submitted right now."""
        self._engine.check(request)

    def join(self, flight: Flight, listen: Listen, deadline_at_s: float = math.inf) -> None:
        """Tells what was said so far as one delta, and then all that follows."""
        assert flight in self._open
        assert flight.sequence is not None
        # It is worth computing as long as one of them waits.
        flight.sequence.deadline_at_s = max(flight.sequence.deadline_at_s, deadline_at_s)
        flight.listeners.append(listen)
        self.num_joined += 1
        if flight.num_tokens:
            listen(TextDelta("".join(flight.text), 0, flight.num_tokens))

    def leave(self, flight: Flight, listen: Listen, error: CleaveError) -> None:
        """Tells no more to one who waited; stops the computation with `error` when nobody is left."""
        if listen in flight.listeners:
            flight.listeners.remove(listen)
        if flight in self._open and not flight.listeners:
            # First closed: the engine may tell of the end at once, and nobody may join what is ending.
            sequence = flight.sequence
            self._close(flight)
            assert sequence is not None
            self._engine.stop(sequence, error)

    async def close(self) -> None:
        """Gives up what is still on its way into the cache."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    def _hear(self, flight: Flight, event: Event) -> None:
        if flight not in self._open:
            return
        listeners = tuple(flight.listeners)
        if isinstance(event, TextDelta):
            flight.num_tokens += event.num_tokens
            if flight.key is not None:
                flight.text.append(event.text)
        else:
            self._close(flight)
        if isinstance(event, Finished) and flight.key is not None:
            assert event.reason is not None, "what generates nothing has no key"
            answer = Answer("".join(flight.text), event.generated_tokens, event.prompt_tokens, event.reason)
            self._keep(self._cache.keep_answer(flight.key, answer))
        for listen in listeners:
            listen(event)

    def _close(self, flight: Flight) -> None:
        self._open.discard(flight)
        # They know the flight: as cycles, all would wait for the garbage collector, the sequence with its tensors.
        flight.sequence = None
        flight.listeners.clear()
        if flight.key is not None:
            self._by_key.pop(flight.key, None)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
