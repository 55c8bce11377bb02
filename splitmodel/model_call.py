"""A model and the inputs that its own `generate` takes: whole, or with features in their media's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class ModelCall:
    """`model` may be a twin in which an encoder's output stands in for the encoder."""

    model: Any
    inputs: dict[str, Any]

    @torch.no_grad()
    def generate(self, **settings: Any) -> Any:
        """The model's own `generate`."""
        return self.model.generate(**self.inputs, **settings)

    @property
    def prompt_tokens(self) -> int:
        """Of the decoder's prompt that `generate` gives back before the answer; 0 where it makes its own."""
        ids = self.inputs.get("input_ids")
        return 0 if ids is None or self.model.config.is_encoder_decoder else int(ids.shape[1])
