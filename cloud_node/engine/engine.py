"""The engine: sequences join and leave a running batch at every step; what ends one of them touches no other.

Two threads of its own beside the event loop's: one prepares (payloads, tails, fusion), one steps (prompts, tokens). The
loop submits, stops and hears. So one request's tail never holds up another's tokens. A request that comes to an idle
engine alone is prepared by the stepping thread, which has nothing else to do: one thread fewer is woken for it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Embeddings, Event, Finished, Sequence, TextDelta
from cloud_node.engine.admission import Pace
from cloud_node.engine.batch import Observer, Observers, Outcome, Runner, RunningBatch, failure, unforeseen
from cloud_node.engine.scheduler import Scheduler
from cloud_node.engine.telling import Events
from cloud_node.engine.waiting_room import Places, WaitingRoom
from wire.errors import CleaveError, DeadlineExceeded, ModelFailed, Overloaded
from wire.limits import MAX_TENSOR_BYTES


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What bounds the engine. `max_tokens` bounds the tokens that those with a row may come to; 0: no more does."""

    max_queue: int = 64
    num_slots: int = 16
    max_tokens: int = 0
    chunk_tokens: int = 256  # of prompts, read per step
    max_tail_batch: int = 8
    max_decoded_bytes: int = MAX_TENSOR_BYTES  # of the inputs that are taken up together
    sheds_late: bool = True  # whether what cannot be done by its deadline is refused
    priority_s: float = 5.0  # what one step of priority is worth
    tell_every_s: float = 0.005  # tokens that come faster are told together; first ones and ends at once


class Engine:
    """Made, used and closed on one event loop; events of a sequence reach its `emit` there, in order."""

    def __init__(self, runner: Runner, settings: EngineSettings, observer: Observer) -> None:
        self.settings = settings
        self._runner = runner
        self._observer = observer
        scheduler = Scheduler(settings.num_slots, settings.max_tokens, settings.chunk_tokens)
        self.pace = Pace()
        heard = Observers(observer, self.pace)
        self.batch = RunningBatch(runner, scheduler, heard, self._tell, settings.tell_every_s)
        self._open: set[Sequence] = set()  # the loop's: submitted and not ended
        self._loop = asyncio.get_running_loop()
        # Guards all below, which the threads hand to one another.
        self._lock = threading.RLock()
        # One for each thread: whoever is woken for nothing takes the interpreter from the loop.
        self._may_prepare, self._may_step = threading.Condition(self._lock), threading.Condition(self._lock)
        places = Places(settings.max_queue, settings.num_slots, settings.sheds_late)
        self._room = WaitingRoom(places, self.pace)
        self._prepared: list[Sequence] = []
        self._is_idle = False  # the stepping thread waits
        self._is_preparing = False  # either thread: the runner prepares for one at a time
        self._is_closing = False
        self._threads = [
            threading.Thread(target=self._repeat, args=(once,), name=name, daemon=True)
            for name, once in (("prepare", self._prepare_once), ("step", self._step_once))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_open(self) -> int:
        """Sequences that were submitted and have not ended."""
        return len(self._open)

    @property
    def num_running(self) -> int:
        """Those that have a row."""
        return self.batch.num_reading + self.batch.num_decoding

    @property
    def num_waiting(self) -> int:
        """Those that wait for a row, or to be prepared."""
        return max(0, self.num_open - self.num_running)

    def check(self, request: Request) -> None:
        """Raises Overloaded where a request that comes whole right now would be refused; it takes no place."""
        now = time.monotonic()
        with self._lock:
            self._room.check(
                request, request.deadline_s, self._virtual_arrival_s(request, now), random.random()
            )

    def submit(self, sequence: Sequence) -> None:
        """Queues a sequence; raises Overloaded where there is no place for it, or it would be done too late."""
        sequence.arrived_s = now = time.monotonic()
        sequence.virtual_arrival_s = self._virtual_arrival_s(sequence.request, now)
        with self._lock:
            refused = self._room.enter(sequence, now, random.random())
            self._open.add(sequence)
            self._wake()
        if refused is not None:
            self._deliver([refused])

    def hasten(self, sequence: Sequence) -> None:
        """Its request has become more urgent: it has its turn as if it came now, where that is sooner."""
        with self._lock:
            self._room.hasten(sequence, self._virtual_arrival_s(sequence.request, time.monotonic()))

    def stop(self, sequence: Sequence, error: CleaveError) -> None:
        """Ends a sequence with `error`, which it hears at once; its row is free after the step that is under way."""
        sequence.stop(error)
        with self._lock:
            has_waited = self._room.give_up(sequence)
            self._wake()
        if sequence in self._open:
            self._open.discard(sequence)
            self._end(sequence, error)
        if has_waited:
            sequence.let_go()

    async def close(self) -> None:
        """Ends what is open, and the threads."""
        for sequence in self._open:
            sequence.stop(ModelFailed("the cloud is closing"))
        with self._lock:
            self._is_closing = True
            self._may_prepare.notify()
            self._may_step.notify()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._open.clear()

    def _repeat(self, once: Callable[[], bool]) -> None:
        while once():
            pass

    def _wake(self) -> None:
        """Whoever is to take up what waits; called, under the lock, whenever that may have changed."""
        if self._room.num_queued:
            (self._may_step if self._is_idle and self._is_alone else self._may_prepare).notify()

    @property
    def _is_alone(self) -> bool:
        return self._room.num_queued == 1

    def _prepare_once(self) -> bool:
        """Takes up the first that wait, as many as go through a tail together; False once the engine closes."""
        with self._lock:
            self._may_prepare.wait_for(lambda: self._is_closing or self._has_more_to_prepare())
            if self._is_closing:
                return False
            taken, refused, started = self._take_up()
        self._prepare(taken, refused, started)
        return True

    def _has_more_to_prepare(self) -> bool:
        is_the_others = self._is_idle and self._is_alone
        return (
            self._room.num_queued > 0
            and not self._is_preparing
            and not is_the_others
            and self._has_room_for_more()
        )

    def _take_up(self) -> tuple[list[Sequence], list[tuple[Sequence, Overloaded]], float]:
        """Under the lock. Whoever takes up prepares, and nobody else does until that is done."""
        most, most_bytes = self.settings.max_tail_batch, self.settings.max_decoded_bytes
        started = time.monotonic()
        taken, refused = self._room.take(most, most_bytes, started, random.random())
        self._is_preparing = True
        return taken, refused, started

    def _prepare(
        self, taken: list[Sequence], refused: list[tuple[Sequence, Overloaded]], started: float
    ) -> None:
        self._tell([*refused])
        for sequence in taken:
            sequence.times.queue_s = started - sequence.arrived_s
        outcomes = self._outcomes(taken)
        for sequence in taken:
            try:
                outcome = next(outcomes)
            except Exception as unknown:
                outcome = unforeseen(unknown)
            self._hand_over(sequence, outcome)
        if taken:
            self.pace.prepared(len(taken), time.monotonic() - started)
            self._observer.tail_batch(len(taken), max(sequence.times.tail_s for sequence in taken))
        with self._lock:
            self._is_preparing = False
            self._wake()

    def _outcomes(self, taken: list[Sequence]) -> Iterator[Outcome]:
        """Whatever the runner raises, even before its first outcome, is raised where that is awaited."""
        yield from self._runner.prepare(taken)

    def _hand_over(self, sequence: Sequence, outcome: Outcome) -> None:
        """From the preparing thread to the stepping one, as soon as it is ready; to the loop what has no step."""
        if isinstance(outcome, Embeddings):
            outcome.times.total_s = time.monotonic() - sequence.arrived_s
            self._tell([(sequence, outcome)])
            return
        if outcome is not None:
            self._tell([(sequence, failure(sequence, outcome))])
            return
        with self._lock:
            self._prepared.append(sequence)
            self._may_step.notify()

    def _has_room_for_more(self) -> bool:
        """Few are prepared ahead, so that one that is urgent need not wait for them."""
        return len(self._prepared) + self.batch.num_waiting < 2 * self.settings.max_tail_batch

    def _step_once(self) -> bool:
        """One step of the batch, or what comes before it where nothing else is to be done; False once it closes."""
        with self._lock:
            self._is_idle = True
            self._may_step.wait_for(
                lambda: self._is_closing or self._has_steps() or self._may_prepare_itself()
            )
            self._is_idle = False
            if self._is_closing:
                return False
            taken_up = None if self._has_steps() else self._take_up()
            # What waits is the other thread's from here on.
            self._wake()
        if taken_up is not None:
            self._prepare(*taken_up)
        with self._lock:
            prepared, self._prepared = self._prepared, []
        for sequence in prepared:
            self.batch.add(sequence)
        if self.batch.has_work:
            self._step()
        return True

    def _has_steps(self) -> bool:
        return bool(self._prepared) or self.batch.has_work

    def _may_prepare_itself(self) -> bool:
        return self._is_alone and not self._is_preparing

    def _step(self) -> None:
        had_waiting = self.batch.num_waiting
        try:
            self.batch.step()
        except Exception as error:
            self.batch.end_all(unforeseen(error))
        if self.batch.num_waiting < had_waiting:
            with self._lock:
                self._may_prepare.notify()

    def _tell(self, events: Events) -> None:
        if events:
            self._loop.call_soon_threadsafe(self._deliver, events)

    def _deliver(self, events: Events) -> None:
        """On the loop."""
        for sequence, event in events:
            if not isinstance(event, TextDelta):
                with self._lock:
                    self._room.leave(sequence)
                sequence.let_go()
            if sequence not in self._open:
                continue
            if isinstance(event, TextDelta):
                sequence.emit(event)
            else:
                self._open.discard(sequence)
                self._end(sequence, event)

    def _end(self, sequence: Sequence, event: Event) -> None:
        """Its last event; how long it took says how good the predictions are."""
        took_s, tenant = time.monotonic() - sequence.arrived_s, sequence.request.tenant.name
        if not isinstance(event, CleaveError):
            self.pace.ended(sequence.predicted_s, took_s)
        elif isinstance(event, DeadlineExceeded):
            self.pace.ended(sequence.predicted_s, took_s, is_late=True)
            if sequence.first_token_s:
                self.pace.cut_off(tenant, sequence.num_generated, time.monotonic() - sequence.first_token_s)
        if isinstance(event, Finished):
            self.pace.answered(
                tenant,
                event.prompt_tokens - sequence.num_reused,
                event.generated_tokens,
                event.times.decode_s,
            )
        sequence.emit(event)

    def _virtual_arrival_s(self, request: Request, now_s: float) -> float:
        return now_s - request.priority * self.settings.priority_s
