"""A runner for models whose decoders are not recorded: every row goes through its model's own loop, one by one.

They share the scheduler, the batch and the choice of tokens with all others; only their steps are not one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Embeddings
from cloud_node.asked.sequence import Sequence as Generation
from cloud_node.model.fusion import room_for_answer
from cloud_node.model.prepare import Preparer
from cloud_node.model.sampling import Choice, choose, require_no_beams, seed_of, stop_ids_of
from cloud_node.telemetry.log_lines import about
from splitmodel.adapters.base import Adapter
from splitmodel.encoder import AnyEncoded
from splitmodel.own_loop import OwnLoop
from wire.errors import CleaveError, ModelFailed

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class LoopPrompt:
    """A sequence's own loop, which has its prompt, and later its keys and values."""

    loop: OwnLoop
    choice: Choice
    num_tokens: int
    max_new_tokens: int
    request: Request

    @property
    def cuts(self) -> Sequence[int]:
        """It is read whole."""
        return (self.num_tokens,)

    @property
    def stop_ids(self) -> frozenset[int]:
        return self.choice.stop_ids


class LoopFusion:
    """The model's own `generate`, up to its loop. `context_tokens` is the longest that its decoder reads."""

    def __init__(self, adapter: Adapter, context_tokens: int) -> None:
        self._adapter = adapter
        self._context_tokens = context_tokens

    def __call__(self, request: Request, encoded: Sequence[AnyEncoded]) -> LoopPrompt:
        call = self._adapter.split(encoded, request.prompt)
        settings = request.settings
        # How long the decoder's prompt is, only its loop knows; the model may refuse answers that do not fit behind it.
        max_new_tokens = min(settings.max_new_tokens, max(1, self._context_tokens // 2))
        arguments = settings.generate_arguments()
        loop = OwnLoop(call, {**arguments, **_lengths(settings.min_new_tokens, max_new_tokens)})
        fitting = min(settings.max_new_tokens, room_for_answer(len(loop.prompt_ids), self._context_tokens))
        if fitting != max_new_tokens:
            max_new_tokens = fitting
            loop = OwnLoop(call, {**arguments, **_lengths(settings.min_new_tokens, max_new_tokens)})
        assert loop.config is not None
        require_no_beams(loop.config)
        choice = Choice(
            loop.processors,
            not loop.config.do_sample,
            seed_of(settings),
            loop.prompt_ids,
            stop_ids=stop_ids_of(loop.config),
        )
        return LoopPrompt(loop, choice, max(1, len(loop.prompt_ids)), max_new_tokens, request)


class LoopRunner:
    """Rows know nothing of one another, so that a step of one that fails is its own failure."""

    def __init__(self, preparer: Preparer) -> None:
        self.preparer = preparer

    def prepare(self, sequences: Sequence[Generation]) -> Iterator[Exception | Embeddings | None]:
        return self.preparer.prepare(sequences)

    def begin(self, prompt: LoopPrompt, row: int) -> int:
        return 0

    def read(self, prompt: LoopPrompt, row: int, start: int, stop: int) -> int | CleaveError | None:
        """The whole prompt; the first token of the answer."""
        return choose(prompt.loop.read(), [prompt.choice])[0]

    def step(self, prompts: Sequence[LoopPrompt], first_row: int = 0) -> list[int | CleaveError]:
        """The next token of each."""
        return [self._step(prompt) for prompt in prompts]

    def move(self, source: int, target: int, prompt: LoopPrompt) -> None:
        """A loop is in no row."""

    def _step(self, prompt: LoopPrompt) -> int | CleaveError:
        try:
            logits = prompt.loop.step(prompt.choice.token_ids[-1])
        except Exception as error:  # raised, it would have the others stepped again
            _log.error("request failed inside the model", exc_info=error, extra=about(prompt.request))
            return ModelFailed(f"the model failed on this request ({type(error).__name__}); the others go on")
        return choose(logits, [prompt.choice])[0]


def _lengths(min_new_tokens: int | None, max_new_tokens: int) -> dict[str, int]:
    least = {} if min_new_tokens is None else {"min_new_tokens": min(min_new_tokens, max_new_tokens)}
    return {"max_new_tokens": max_new_tokens, **least}
