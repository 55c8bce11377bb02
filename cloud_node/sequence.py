"""One generation inside the engine: what it was asked, what it may still do, and where its time went."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cloud_node.request import Request
from wire.errors import CleaveError


class FinishReason(Enum):
    STOP_TOKEN = "stop_token"
    STOP_STRING = "stop_string"
    LENGTH = "length"


@dataclass(slots=True)
class StepTimes:
    """Seconds spent in each step on the cloud."""

    queue_s: float = 0.0
    decode_payload_s: float = 0.0
    tail_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that `num_tokens` tokens, the first of them number `token_index`, completed."""

    text: str
    token_index: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation that went well."""

    reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    times: StepTimes


Event = TextDelta | Finished | CleaveError
Emit = Callable[[Event], None]


@dataclass(slots=True, eq=False)
class Sequence:
    """A request with its payload, on its way through the engine.

    `emit` gets its events on the engine's loop: deltas, then exactly one Finished or CleaveError.
    """

    request: Request
    payload: memoryview
    emit: Emit
    submitted_s: float = 0.0
    times: StepTimes = field(default_factory=StepTimes)
    _stopped_by: CleaveError | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self, error: CleaveError) -> None:
        """Ends the sequence with `error` at its next step; the first reason stays."""
        if not self._stop.is_set():
            self._stopped_by = error
            self._stop.set()

    @property
    def stopped_by(self) -> CleaveError | None:
        """Why it was stopped, if it was. Read by the worker's thread while the loop's may write."""
        return self._stopped_by if self._stop.is_set() else None
