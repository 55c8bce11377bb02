"""The shape *dual encoder*: two encoders into one space; the tail ends in embeddings, which are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from splitmodel.adapters.base import Adapter
from splitmodel.encoder import AnyEncoded
from splitmodel.media import MediaInput
from splitmodel.model_call import ModelCall
from wire.errors import BadInput
from wire.modality import Modality
from wire.shape import ModelShape

_METHODS: dict[Modality, str] = {
    "image": "get_image_features",
    "audio": "get_audio_features",
    "text": "get_text_features",
}


class DualEncoder(Adapter):
    """A model that generates nothing: what it makes of every input is a vector of length 1."""

    shape: ModelShape = "dual encoder"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        parts: dict[Modality, Any] = {
            "image": self.processing.image_processor,
            "audio": self.processing.feature_extractor,
            "text": self.processing.tokenizer,
        }
        return tuple(m for m, name in _METHODS.items() if hasattr(self.model, name) and parts[m] is not None)

    def split(self, encoded: Sequence[AnyEncoded], prompt: str) -> ModelCall:
        raise BadInput("this model generates nothing; ask for embeddings, or search")

    def whole(self, inputs: Sequence[MediaInput], prompt: str) -> ModelCall:
        return self.split([], prompt)

    def embedding(self, encoded: AnyEncoded) -> Tensor:
        """The vector of one input, [dim] float32, of length 1."""
        return unit_vector(encoded.output)

    def whole_embedding(self, one: MediaInput) -> Tensor:
        """The same by the whole model: the reference."""
        return unit_vector(self.encode(one.modality, self.encoder_input(one.modality, one.media)))

    def _read(self, modality: Modality, output: Any) -> dict[str, Any]:
        pooled = output if isinstance(output, Tensor) else output.pooler_output
        return {"pooler_output": pooled}

    def _method(self, modality: Modality) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.model, _METHODS[modality])
        return method


def unit_vector(output: dict[str, Any]) -> Tensor:
    """[dim] float32."""
    vector: Tensor = output["pooler_output"][0].float()
    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp(min=1e-12)
    return unit
