"""Answers on their way: one computation, in the engine or on another cloud, and all who wait for it.

A flight is open from its submission until its end, or until the last who waited for it has left. Equal
requests find it by their answer's key. Where several clouds share a cache, a flight first takes its turn: it waits for
the cloud that has the lease, and computes once it has it itself. All methods run on the engine's loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cloud_node.asked.held_bytes import Hold
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Event, Finished, Sequence, TextDelta
from cloud_node.caching.cache import Answer, Cache, repeated
from cloud_node.caching.leases import Lease
from cloud_node.engine.engine import Engine
from wire.errors import CleaveError

Listen = Callable[[Event], None]


@dataclass(slots=True, eq=False)
class Flight:
    """One computation. `text` is what it has said so far; only a flight with a key can be joined."""

    key: bytes | None
    listeners: list[Listen]
    sequence: Sequence | None = None
    turn: asyncio.Task[None] | None = None  # while another cloud may have it, and the engine has not
    lease: Lease | None = None  # to compute it here
    text: list[str] = field(default_factory=list)
    num_tokens: int = 0


class Flights:
    """The engine's face to the streams.

    `num_joined` counts the requests that waited for another's answer, `num_joined_elsewhere` those that got one from
    another cloud.
    """

    def __init__(self, engine: Engine, cache: Cache) -> None:
        self._engine = engine
        self._cache = cache
        self._open: set[Flight] = set()
        self._by_key: dict[bytes, Flight] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self.num_joined = 0
        self.num_joined_elsewhere = 0

    @property
    def num_open(self) -> int:
        return len(self._open)

    def sequences(self) -> Iterator[Sequence]:
        """Those that the engine has, one for all who wait for the same."""
        return (one.sequence for one in self._open if one.sequence is not None and one.turn is None)

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
        hold: Hold | None = None,
    ) -> Flight:
        """Submits a request, where no other cloud is computing the same; `hold` is on the memory of its payloads.

        Raises Overloaded where the engine takes no more, and no flight is left then; or tells it, later.
        """
        assert self.find(key) is None
        flight = Flight(key, [listen])
        flight.sequence = Sequence(
            request, payloads, lambda event: self._hear(flight, event), deadline_at_s=deadline_at_s, hold=hold
        )
        self._open.add(flight)
        if key is not None:
            self._by_key[key] = flight
        if key is not None and self._cache.is_shared:
            turn = self._take_turn(flight, flight.sequence, key)
            flight.turn = asyncio.get_running_loop().create_task(turn)
            return flight
        try:
            self._engine.submit(flight.sequence)
        except CleaveError:
            self._close(flight)
            raise
        return flight

    def check(self, request: Request) -> None:
        """Raises Overloaded where a request would be refused that is submitted right now."""
        self._engine.check(request)

    def join(
        self, flight: Flight, listen: Listen, deadline_at_s: float = math.inf, priority: int = 0
    ) -> None:
        """Tells what was said so far as one delta, and then all that follows."""
        assert flight in self._open
        assert flight.sequence is not None
        # It is worth computing as long as one of them waits.
        flight.sequence.deadline_at_s = max(flight.sequence.deadline_at_s, deadline_at_s)
        if priority > flight.sequence.request.priority:
            flight.sequence.request = replace(flight.sequence.request, priority=priority)
            if flight.turn is None:
                self._engine.hasten(flight.sequence)
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
            sequence, turn = flight.sequence, flight.turn
            self._close(flight)
            assert sequence is not None
            if turn is None:
                self._engine.stop(sequence, error)
            else:
                turn.cancel()
                sequence.let_go()

    async def close(self) -> None:
        """Gives up what is still on its way into the cache, and what waits for another cloud."""
        turns = []
        for flight in self._open:
            if flight.turn is not None and flight.sequence is not None:
                flight.sequence.let_go()
                turns.append(flight.turn)
        for task in (*self._keeping, *turns):
            task.cancel()
        await asyncio.gather(*self._keeping, *turns, return_exceptions=True)

    async def _take_turn(self, flight: Flight, sequence: Sequence, key: bytes) -> None:
        """Tells what another cloud computes; computes it here where none does, or not in time."""
        began_s = time.monotonic()
        # Whoever waits in vain has as long again to compute it; and each request's own deadline ends it.
        left_s = sequence.deadline_at_s - began_s
        found = await self._cache.answer_elsewhere(key, left_s / 2)
        sequence.times.cache_s = time.monotonic() - began_s
        flight.turn = None
        if isinstance(found, Answer):
            sequence.let_go()
            self.num_joined_elsewhere += len(flight.listeners)
            self._hear_elsewhere(flight, found, sequence.times.cache_s)
            return
        flight.lease = found
        try:
            self._engine.submit(sequence)
        except CleaveError as error:
            sequence.let_go()
            self._hear(flight, error)

    def _hear_elsewhere(self, flight: Flight, answer: Answer, waited_s: float) -> None:
        listeners = tuple(flight.listeners)
        self._close(flight)
        for listen in listeners:
            if answer.num_tokens:
                listen(TextDelta(answer.text, 0, answer.num_tokens))
            listen(repeated(answer, waited_s))

    def _hear(self, flight: Flight, event: Event) -> None:
        if flight not in self._open:
            return
        listeners = tuple(flight.listeners)
        answer: Answer | None = None
        if isinstance(event, TextDelta):
            flight.num_tokens += event.num_tokens
            if flight.key is not None:
                flight.text.append(event.text)
        else:
            if isinstance(event, Finished) and flight.key is not None:
                assert event.reason is not None, "what generates nothing has no key"
                answer = Answer(
                    "".join(flight.text), event.generated_tokens, event.prompt_tokens, event.reason
                )
            self._close(flight, answer)
        for listen in listeners:
            listen(event)

    def _close(self, flight: Flight, answer: Answer | None = None) -> None:
        self._open.discard(flight)
        if flight.key is not None and (answer is not None or flight.lease is not None):
            self._keep(self._end(flight.key, answer, flight.lease))
        # They know the flight: as cycles, all would wait for the garbage collector, the sequence with its tensors.
        flight.sequence = flight.turn = flight.lease = None
        flight.listeners.clear()
        if flight.key is not None:
            self._by_key.pop(flight.key, None)

    async def _end(self, key: bytes, answer: Answer | None, lease: Lease | None) -> None:
        """Keeps the answer, and lets go of the lease only then."""
        if answer is not None:
            await self._cache.keep_answer(key, answer)
        if lease is not None:
            await self._cache.give_back(lease)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
