"""The running batch: one step reads a part of a prompt and gives every row its next token. No threads, no loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Values
from typing import Any, Protocol, cast

from cloud_node.asked.sequence import Embeddings, Event, Finished, FinishReason, Sequence
from cloud_node.engine.scheduler import Chunk, Scheduler
from cloud_node.engine.telling import Events, Telling
from cloud_node.telemetry.log_lines import about
from wire.errors import CleaveError, Internal, ModelFailed

_log = logging.getLogger(__name__)


# Of preparing a sequence: it is ready to be stepped, or is done without a step, or failed.
Outcome = Embeddings | Exception | None


class Runner(Protocol):
    """The model. `prepare` is called for one at a time, maybe while all else is called on another thread."""

    def prepare(self, sequences: Values[Sequence]) -> Iterable[Outcome]: ...
    def begin(self, prompt: Any, row: int) -> int: ...
    def read(self, prompt: Any, row: int, start: int, stop: int) -> int | CleaveError | None: ...
    def step(self, prompts: Values[Any], first_row: int = 0) -> Values[int | CleaveError]: ...
    def move(self, source: int, target: int, prompt: Any) -> None: ...


class Observer(Protocol):
    """Hears what was done and how long it took."""

    def tail_batch(self, size: int, seconds: float) -> None: ...
    def prefill_chunk(self, tokens: int, seconds: float, reused_tokens: int) -> None: ...
    def decode_step(self, batch: int, seconds: float) -> None: ...


class Observers:
    """Several of them, as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def tail_batch(self, size: int, seconds: float) -> None:
        for observer in self._observers:
            observer.tail_batch(size, seconds)

    def prefill_chunk(self, tokens: int, seconds: float, reused_tokens: int) -> None:
        for observer in self._observers:
            observer.prefill_chunk(tokens, seconds, reused_tokens)

    def decode_step(self, batch: int, seconds: float) -> None:
        for observer in self._observers:
            observer.decode_step(batch, seconds)


class RunningBatch:
    """Sequences from the time they are prepared until they end; `tell` gets the events of each step."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        observer: Observer,
        tell: Callable[[Events], None],
        tell_every_s: float = 0.0,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._observer = observer
        self._telling = Telling(tell, tell_every_s)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def num_waiting(self) -> int:
        return self._scheduler.num_waiting

    @property
    def num_reading(self) -> int:
        return int(self._scheduler.slots.prefilling is not None)

    @property
    def num_decoding(self) -> int:
        return len(self._scheduler.slots.decoding)

    def add(self, sequence: Sequence) -> None:
        """A prepared sequence waits for a row."""
        sequence.waits_from_s = time.monotonic()
        self._scheduler.add(sequence)

    def step(self) -> None:
        """What is stopped leaves, every row gets a token, and who has its turn is read."""
        self._end_stopped()
        self._decode()
        # Before a prompt is read: tokens that are there wait for nobody's.
        self._telling.flush(is_urgent=self._scheduler.has_prompts)
        self._read()
        self._telling.flush()

    def end_all(self, error: CleaveError) -> None:
        """Ends everything that is in the batch, whatever state it is in."""
        for sequence in self._all():
            self._telling.add(sequence, error)
        self._scheduler.clear()
        self._telling.flush()

    def _all(self) -> list[Sequence]:
        slots = self._scheduler.slots
        reading = [slots.prefilling] if slots.prefilling is not None else []
        return cast("list[Sequence]", [*self._scheduler.waiting, *reading, *slots.decoding])

    def _end_stopped(self) -> None:
        for sequence in self._all():
            if (error := sequence.stopped_by) is not None:
                self._leave(sequence, error)

    def _read(self) -> None:
        """Chunks of prompts, one sequence after the other, within one step's budget."""
        budget = self._scheduler.chunk_tokens
        self._end_stopped()
        while budget > 0:
            if (admitted := self._scheduler.admit()) is not None:
                self._begin(cast(Sequence, admitted))
            chunk = self._scheduler.next_chunk(budget)
            if chunk is None:
                return
            self._read_chunk(chunk)
            budget -= chunk.num_tokens

    def _begin(self, sequence: Sequence) -> None:
        now = time.monotonic()
        sequence.times.queue_s += now - sequence.waits_from_s
        sequence.prefill_from_s = now
        try:
            sequence.num_reused = self._runner.begin(sequence.prompt, self._scheduler.slots.row(sequence))
        except Exception as error:  # a row that cannot be filled is its own sequence's failure
            self._leave(sequence, failure(sequence, error))
            return
        sequence.num_prefilled = sequence.num_reused

    def _read_chunk(self, chunk: Chunk) -> None:
        sequence = cast(Sequence, chunk.sequence)
        is_first = chunk.start == sequence.num_reused
        started = time.monotonic()
        try:
            token = self._runner.read(sequence.prompt, chunk.row, chunk.start, chunk.stop)
        except Exception as error:  # whatever a model raises ends its own sequence only
            self._leave(sequence, failure(sequence, error))
            return
        now = time.monotonic()
        self._observer.prefill_chunk(chunk.num_tokens, now - started, sequence.num_reused if is_first else 0)
        sequence.num_prefilled = chunk.stop
        if token is not None:
            sequence.times.prefill_s += now - sequence.prefill_from_s
            sequence.first_token_s = now
            self._scheduler.slots.start_decoding()
            self._take(sequence, token)

    def _decode(self) -> None:
        rows = cast("list[Sequence]", list(self._scheduler.slots.decoding))
        if not rows:
            return
        started = time.monotonic()
        try:
            tokens = self._runner.step([sequence.prompt for sequence in rows])
        except Exception:
            _log.exception("a step of %d rows failed; each is tried alone", len(rows))
            tokens = [self._step_alone(sequence, row) for row, sequence in enumerate(rows)]
        self._observer.decode_step(len(rows), time.monotonic() - started)
        for sequence, token in zip(rows, tokens, strict=True):
            self._take(sequence, token)

    def _step_alone(self, sequence: Sequence, row: int) -> int | CleaveError:
        """So that a row which fails is known, and the others go on."""
        try:
            return self._runner.step([sequence.prompt], row)[0]
        except Exception as error:
            return failure(sequence, error)

    def _take(self, sequence: Sequence, token: int | CleaveError) -> None:
        """A new token, or why there is none, becomes events; the last one frees the row."""
        if isinstance(token, CleaveError):
            self._leave(sequence, token)
            return
        sequence.num_generated += 1
        try:
            reason = self._say(sequence, token)
        except Exception as error:  # a tokenizer's failure is its own sequence's
            self._leave(sequence, failure(sequence, error))
            return
        if reason is None:
            return
        now = time.monotonic()
        sequence.times.decode_s = now - sequence.first_token_s
        sequence.times.total_s = now - sequence.arrived_s
        self._leave(
            sequence, Finished(reason, sequence.num_prompt_tokens, sequence.num_generated, sequence.times)
        )

    def _say(self, sequence: Sequence, token: int) -> FinishReason | None:
        """Adds the text that the token completes to the events; why the answer ends with it, if it does."""
        delta = sequence.text.push(token)
        reason = _reason_to_finish(sequence, token)
        rest = sequence.text.end() if reason is not None else None
        for one in (delta, rest):
            if one is not None:
                self._telling.add(sequence, one)
        # What was held back until the end may hold a stop string, too.
        return (
            FinishReason.STOP_STRING if reason is FinishReason.LENGTH and sequence.text.is_stopped else reason
        )

    def _leave(self, sequence: Sequence, event: Event) -> None:
        slots = self._scheduler.slots
        for move in self._scheduler.remove(sequence):
            moved = cast(Sequence, slots.at(move.target))
            self._runner.move(move.source, move.target, moved.prompt)
        self._telling.add(sequence, event)


def failure(sequence: Sequence, error: Exception) -> CleaveError:
    """What its sequence is told of an error. The text of one that is not ours may hold a user's data: nobody has it."""
    if isinstance(error, CleaveError):
        return error
    _log.error("request failed inside the model", exc_info=error, extra=about(sequence.request))
    return ModelFailed(f"the model failed on this request ({type(error).__name__}); the others go on")


def unforeseen(error: Exception) -> Internal:
    """The engine's own fault."""
    _log.error("the engine failed", exc_info=error)
    return Internal(f"unforeseen {type(error).__name__} in the engine; the cloud's log says more")


def _reason_to_finish(sequence: Sequence, token: int) -> FinishReason | None:
    if token in sequence.prompt.stop_ids:
        return FinishReason.STOP_TOKEN
    if sequence.text.is_stopped:
        return FinishReason.STOP_STRING
    return FinishReason.LENGTH if sequence.num_generated >= sequence.prompt.max_new_tokens else None
