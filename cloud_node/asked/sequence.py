"""One generation inside the engine: what it was asked, how far it is, and where its time went."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Values
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloud_node.asked.held_bytes import Hold
from cloud_node.asked.request import Request
from cloud_node.asked.tenants import Tenant
from wire.errors import CleaveError


class FinishReason(Enum):
    STOP_TOKEN = "stop_token"
    STOP_STRING = "stop_string"
    LENGTH = "length"


@dataclass(slots=True)
class StepTimes:
    """Seconds spent in each step on the cloud."""

    queue_s: float = 0.0  # until its payloads were taken up, and from then on until it had a row
    decode_payload_s: float = 0.0
    tail_s: float = 0.0  # of the batch that it was in
    prefill_s: float = 0.0  # fusion, and its prompt's chunks with what ran between them
    decode_s: float = 0.0  # from the first token to the last
    total_s: float = 0.0
    cache_s: float = 0.0  # looking into the cache, and waiting there for an equal request elsewhere


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that `num_tokens` tokens, the first of them number `token_index`, completed."""

    text: str
    token_index: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request that went well; without a reason, nothing was generated."""

    reason: FinishReason | None
    prompt_tokens: int
    generated_tokens: int
    times: StepTimes
    is_repeated: bool = False  # nothing was computed here


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """What a dual encoder made of the inputs: the end of what the engine does for it."""

    vectors: NDArray[np.float32]  # [inputs, dim], each of length 1
    times: StepTimes


Event = TextDelta | Finished | Embeddings | CleaveError
Emit = Callable[[Event], None]


class Prompt(Protocol):
    """What the runner made of a request: ready for the decoder. All else in it is the runner's own."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def cuts(self) -> Values[int]: ...  # where it may be cut, ascending, its end last
    @property
    def max_new_tokens(self) -> int: ...  # within the model's context
    @property
    def stop_ids(self) -> frozenset[int]: ...


class Text(Protocol):
    """Tokens to text, as they come."""

    is_stopped: bool

    def push(self, token_id: int) -> TextDelta | None: ...
    def end(self) -> TextDelta | None: ...


@dataclass(slots=True, eq=False)
class Sequence:
    """A request with the payloads of its inputs, on its way through the engine.

    `emit` gets its events on the engine's loop: deltas, then exactly one Finished, Embeddings or CleaveError.
    """

    request: Request
    payloads: tuple[memoryview, ...]
    emit: Emit
    arrived_s: float = 0.0
    virtual_arrival_s: float = 0.0  # by which it has its turn
    deadline_at_s: float = math.inf  # when nobody waits for it any more
    predicted_s: float = 0.0  # from its arrival to its end, as it looked when it came
    waits_from_s: float = 0.0  # for a row
    prefill_from_s: float = 0.0
    first_token_s: float = 0.0
    times: StepTimes = field(default_factory=StepTimes)
    num_prefilled: int = 0
    num_reused: int = 0  # of the prefilled tokens, those whose keys and values were there already
    num_generated: int = 0
    hold: Hold | None = None  # on the memory of its payloads
    _prompt: Prompt | None = None
    _text: Text | None = None
    stopped_by: CleaveError | None = None  # the loop says it, the engine's threads look

    @property
    def prompt(self) -> Prompt:
        assert self._prompt is not None, "not prepared yet"
        return self._prompt

    @property
    def text(self) -> Text:
        assert self._text is not None, "not prepared yet"
        return self._text

    def prepare(self, prompt: Prompt, text: Text) -> None:
        """From now on the sequence can be scheduled; its payloads are no longer needed."""
        self._prompt, self._text = prompt, text
        self.let_go()

    def let_go(self) -> None:
        """Of its payloads, and of what they hold of the memory for all requests."""
        self.payloads = ()
        if self.hold is not None:
            self.hold.give_back()

    @property
    def tenant(self) -> Tenant:
        return self.request.tenant

    @property
    def has_row(self) -> bool:
        """Whether it came so far; it may have ended since."""
        return self.prefill_from_s > 0

    @property
    def num_prompt_tokens(self) -> int:
        return self.prompt.num_tokens

    @property
    def max_tokens(self) -> int:
        """Of the prompt and the answer together."""
        return self.prompt.num_tokens + self.prompt.max_new_tokens

    @property
    def cuts(self) -> Values[int]:
        return self.prompt.cuts

    def stop(self, error: CleaveError) -> None:
        """Ends the sequence with `error` at its next step; the first reason stays."""
        if self.stopped_by is None:
            self.stopped_by = error
