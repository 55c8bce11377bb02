"""The shape *generator with encoders*: picture features stand in for placeholder tokens, a decoder generates.

The encoder is the model's own `get_image_features`; its result goes back in as `mm_encoder_outputs`, so that
fusion and generation are the model's own, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree

from splitmodel.chain import Chain
from splitmodel.loading import Checkpoint
from splitmodel.processing import Processing
from splitmodel.trace import trace
from wire.errors import BadInput

# Parts of an encoder's output that the decoder never reads.
_INNER_OUTPUTS = ("last_hidden_state", "hidden_states", "attentions")


@dataclass(frozen=True, slots=True)
class Encoder:
    """A traced encoder and how its outputs are put together again."""

    chain: Chain
    output_type: type
    output_spec: pytree.TreeSpec


class GeneratorWithEncoders:
    """A model whose picture encoder is a chain and whose decoder generates from the chain's end."""

    modality = "image"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.processing = Processing(checkpoint.processor)
        _require_pluggable(self.model, checkpoint.name)

    def trace_encoder(self, example: Image.Image) -> Encoder:
        """Traces the image encoder at the shape that the processor gives the example picture."""
        inputs = self._encoder_inputs(example)
        content = {key: value for key, value in inputs.items() if self.processing.is_content(key, value)}
        fixed = {key: value for key, value in inputs.items() if key not in content}
        shape: list[Any] = []

        def encode(*tensors: Tensor) -> Sequence[Tensor]:
            named = dict(zip(content, tensors, strict=True))
            output = self.model.get_image_features(**named, **fixed, return_dict=True)
            kept = {key: value for key, value in output.items() if key not in _INNER_OUTPUTS}
            leaves, spec = pytree.tree_flatten(kept)
            shape[:] = [type(output), spec]
            return leaves

        traced = trace(encode, list(content.values()), self.model)
        return Encoder(Chain(traced, list(content)), *shape)

    def input_tensors(self, picture: Image.Image) -> list[Tensor]:
        """The tensors at split point 0, by the model's own processor, batch 1."""
        inputs = self._encoder_inputs(picture)
        return [value for key, value in inputs.items() if self.processing.is_content(key, value)]

    def whole_inputs(self, prompt: str, picture: Image.Image) -> dict[str, Tensor]:
        """The inputs of the whole model, as `generate` takes them: the reference of every comparison."""
        return self._on_device(self.processing.whole(prompt, picture))

    def split_inputs(
        self, encoder: Encoder, features: Sequence[Tensor], prompt: str, width: int, height: int
    ) -> dict[str, Any]:
        """The same inputs, with the chain's last tensors in the picture's place."""
        leaves = encoder.chain.outputs_in_order(features)
        kept = pytree.tree_unflatten(leaves, encoder.output_spec)
        inputs = self._on_device(self.processing.prompt_inputs(prompt, width, height))
        taken = set(inspect.signature(self.model.get_image_features).parameters) - set(
            inspect.signature(self.model.forward).parameters
        )
        inputs = {key: value for key, value in inputs.items() if key not in taken}
        return {**inputs, "mm_encoder_outputs": {self.modality: encoder.output_type(**kept)}}

    @torch.no_grad()
    def generate(self, inputs: Mapping[str, Any], **settings: Any) -> Any:
        """The model's own `generate`."""
        return self.model.generate(**inputs, **settings)

    def _encoder_inputs(self, picture: Image.Image) -> dict[str, Tensor]:
        inputs = self._on_device(self.processing.encoder_inputs(picture))
        taken = inspect.signature(_method(self.model)).parameters
        return {key: value for key, value in inputs.items() if key in taken}

    def _on_device(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device, dtype = self.model.device, self.model.dtype
        return {
            key: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for key, value in inputs.items()
        }


def _method(model: Any) -> Callable[..., Any]:
    """The method that does the encoding; the outer model's only hands its arguments on."""
    inner = getattr(model.base_model, "get_image_features", None)
    method: Callable[..., Any] = inner if inner is not None else model.get_image_features
    return method


def _require_pluggable(model: Any, name: str) -> None:
    if not hasattr(model, "get_image_features"):
        raise BadInput(f"{name} has no get_image_features, so its picture encoder cannot be split off")
    if "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
        raise BadInput(f"{name} takes no mm_encoder_outputs, so features cannot go back into it")
