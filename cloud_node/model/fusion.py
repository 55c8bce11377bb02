"""The model's own fusion, recorded: encoded inputs and a question to a prompt for the batch."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_node.asked.request import Request
from cloud_node.model.prefix import prefix_key
from cloud_node.model.prompt import ModelPrompt, chunk_cuts
from cloud_node.model.sampling import make_choice, stop_ids_of
from splitmodel.adapters.base import Adapter
from splitmodel.decoder import Decoder
from splitmodel.encoder import AnyEncoded
from wire.errors import TooLarge


class RecordedFusion:
    """`context_tokens` is the longest that prompt and answer may be together."""

    def __init__(self, adapter: Adapter, decoder: Decoder, context_tokens: int) -> None:
        self._adapter = adapter
        self._decoder = decoder
        self._context_tokens = context_tokens
        self._stop_ids = stop_ids_of(adapter.model.generation_config)

    def __call__(self, request: Request, encoded: Sequence[AnyEncoded]) -> ModelPrompt:
        whole = self._adapter.split(encoded, request.prompt)
        room = room_for_answer(whole.prompt_tokens, self._context_tokens)
        max_new_tokens = min(request.settings.max_new_tokens, room)
        call = self._decoder.record(whole)
        cuts = chunk_cuts(call.masks)
        model = self._adapter.model
        return ModelPrompt(
            call=call,
            cuts=cuts,
            choice=make_choice(model, request.settings, call.input_ids.tolist(), max_new_tokens),
            stop_ids=self._stop_ids,
            max_new_tokens=max_new_tokens,
            step_positions=tuple(call.step_position_ids.reshape(-1).tolist()),
            prefix=prefix_key(call, self._decoder.embed_ids(call.input_ids), cuts, request.tenant.name),
        )


def room_for_answer(prompt_tokens: int, context_tokens: int) -> int:
    """Tokens that are left for an answer; raises TooLarge where there are none."""
    if prompt_tokens >= context_tokens:
        raise TooLarge(
            f"the prompt and its inputs have {prompt_tokens:,} tokens, and the model reads fewer than "
            f"{context_tokens:,} here; ask a shorter question, or about less"
        )
    return context_tokens - prompt_tokens
