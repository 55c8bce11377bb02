"""One sequence through its model's own decoding loop, a step at a time: for decoders that the engine cannot batch.

The model's own `generate` runs up to its loop, which is taken over: prompt, logits processors and cache are so the
model's own, whatever its family does about them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from splitmodel.model_call import ModelCall
from wire.errors import BadInput


class OwnLoop:
    """Made before the first step; `processors` and `config` say how the model would choose its tokens."""

    def __init__(self, call: ModelCall, arguments: dict[str, Any]) -> None:
        self.model = call.model
        self.processors: LogitsProcessorList = LogitsProcessorList()
        self.config: GenerationConfig | None = None
        self._ids = torch.empty(1, 0, dtype=torch.long)
        self._kwargs: dict[str, Any] = {}
        self._has_read = False
        try:
            call.generate(**arguments, custom_generate=self._take_over)
        except _TakenOver:
            return
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"the model does not take these settings: {' '.join(str(error).split())}"
            ) from error
        raise BadInput("the model generates in a way of its own, which cannot be served; use another model")

    @property
    def prompt_ids(self) -> list[int]:
        """What the decoder has read, or is about to."""
        ids: list[int] = self._ids[0].tolist()
        return ids

    @torch.no_grad()
    def read(self) -> Tensor:
        """The prompt; the first token's logits, [1, vocabulary] float32."""
        assert self.config is not None
        self._has_read = True
        outputs = self.model._prefill(self._ids, self.config, self._kwargs, is_first_iteration=True)
        return self._logits(outputs)

    @torch.no_grad()
    def step(self, token_id: int) -> Tensor:
        """One more token; the next one's logits, [1, vocabulary] float32."""
        assert self._has_read, "the prompt is read first"
        token = torch.tensor([[token_id]], device=self._ids.device)
        self._ids = torch.cat([self._ids, token], dim=-1)
        given = self.model.prepare_inputs_for_generation(self._ids, next_sequence_length=1, **self._kwargs)
        return self._logits(self.model(**given, return_dict=True))

    def _logits(self, outputs: Any) -> Tensor:
        self._kwargs = self.model._update_model_kwargs_for_generation(
            outputs, self._kwargs, is_encoder_decoder=self.model.config.is_encoder_decoder
        )
        logits: Tensor = outputs.logits[:, -1].float()
        return logits

    def _take_over(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Tensor:
        """What `generate` calls in place of its loop."""
        self._ids, self.processors, self.config = input_ids, logits_processor, generation_config
        self._kwargs = model_kwargs
        raise _TakenOver


class _TakenOver(Exception):
    """All that the loop would be given is known."""
