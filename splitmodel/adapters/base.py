"""What every shape of model offers: encoders that are traced, and a way back in for what they made.

One file per shape beside this one; nothing is written per family. A shape says which method encodes and how its
result stands in for the media; all else is here.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from splitmodel.chain import Chain
from splitmodel.encoder import AnyEncoded, EncodedWhole, Encoder, EncoderInput, read_outputs
from splitmodel.loading import Checkpoint
from splitmodel.media import Media, MediaInput, blank
from splitmodel.model_call import ModelCall
from splitmodel.processing import Processing
from splitmodel.tiling import tile_axis
from splitmodel.trace import trace
from wire.errors import BadInput
from wire.modality import Modality
from wire.shape import ModelShape
from wire.sizes import Size


class Adapter(ABC):
    """One model of one shape."""

    shape: ModelShape

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.processing = Processing(checkpoint.processor)

    @property
    @abstractmethod
    def modalities(self) -> tuple[Modality, ...]:
        """Those that the model has an encoder for, and its processor a part."""

    @abstractmethod
    def _method(self, modality: Modality) -> Callable[..., Any]:
        """What encodes: keyword tensors in, a ModelOutput out."""

    @abstractmethod
    def split(self, encoded: Sequence[AnyEncoded], prompt: str) -> ModelCall:
        """The call with features in the media's place."""

    def whole(self, inputs: Sequence[MediaInput], prompt: str) -> ModelCall:
        """The whole model's call: the reference of every comparison."""
        return ModelCall(self.model, self._on_device(self.processing.whole(prompt, inputs)))

    def encoder_input(self, modality: Modality, media: Media) -> EncoderInput:
        """The tensors at split point 0 and what follows from the media's size, by the model's own processor.

        Raises BadInput where the processor makes nothing that the encoder takes.
        """
        given = self._arguments(modality, media)
        content = {k: v for k, v in given.items() if self.processing.is_content(modality, k, v)}
        if not content:
            raise BadInput(
                f"the processor of {self.checkpoint.name} makes no {modality} input that its encoder takes; use "
                "another model, or install what its processor reads such inputs with"
            )
        return EncoderInput(content, {k: v for k, v in given.items() if k not in content})

    def tile_axis(self, modality: Modality, examples: Sequence[Media]) -> int | None:
        """The axis along which the processor lays a picture's tiles, or a sound's windows; None where it makes none."""
        inputs = [self.encoder_input(modality, media) for media in examples]
        return tile_axis(inputs, lambda one: self.encode(modality, one))

    def num_tiles(self, modality: Modality, size: Size, axis: int | None) -> int:
        """How many the processor makes of an input of that size."""
        return len(self.encoder_input(modality, blank(size)).tiles(axis))

    @torch.no_grad()
    def encode(self, modality: Modality, given: EncoderInput) -> dict[str, Any]:
        """The encoder's own output, what is read of it."""
        return self._read(modality, self._encode(modality, given))

    @torch.no_grad()
    def encode_whole(self, modality: Modality, given: EncoderInput, size: Size) -> EncodedWhole:
        """The same for an input of a request, of whatever shape."""
        output = self._encode(modality, given)
        return EncodedWhole(modality, type(output), self._read(modality, output), size)

    def trace_encoder(
        self, modality: Modality, example: Media, *, axis: int | None = None, size: Size | None = None
    ) -> Encoder:
        """Traces the encoder at the shape that the processor gives the example; with an axis, at one tile of it.

        `size` is that of the inputs which have this shape, where others have another.
        """
        given = self.encoder_input(modality, example).tiles(axis)[0]
        shape: list[Any] = []

        def encode(*tensors: Tensor) -> Sequence[Tensor]:
            named = EncoderInput(dict(zip(given.content, tensors, strict=True)), given.constants)
            output = self._encode(modality, named)
            leaves, spec = pytree.tree_flatten(self._read(modality, output))
            shape[:] = [type(output), spec]
            return leaves

        traced = trace(encode, list(given.content.values()), self.model)
        chain = Chain(traced, list(given.content))
        first = chain.split_points[0].tensors[0]
        shape_id = str(size) if size is not None else "x".join(map(str, first.shape))
        return Encoder(modality, shape_id, size, axis, chain, *shape)

    def boundary_input(self, encoder: Encoder, media: Media) -> list[list[Tensor]]:
        """The tensors at split point 0, tile by tile, by the model's own processor."""
        tiles = self.encoder_input(encoder.modality, media).tiles(encoder.tile_axis)
        return [list(tile.content.values()) for tile in tiles]

    def _encode(self, modality: Modality, given: EncoderInput) -> Any:
        return self._method(modality)(**given.content, **given.constants, **self._extra(modality))

    def _extra(self, modality: Modality) -> dict[str, Any]:
        """Further arguments of the method."""
        return {"return_dict": True} if "return_dict" in _parameters(self._method(modality)) else {}

    def _arguments(self, modality: Modality, media: Media) -> dict[str, Tensor]:
        """What the method is called with for these media, content and all."""
        given = self._on_device(self.processing.encoder_inputs(modality, media))
        taken = _parameters(self._method(modality))
        return {key: value for key, value in given.items() if key in taken}

    def _read(self, modality: Modality, output: Any) -> dict[str, Any]:
        """The parts of an encoder's output that something behind it reads."""
        return read_outputs(output)

    def _on_device(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device, dtype = self.model.device, self.model.dtype
        return {
            key: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for key, value in inputs.items()
        }


def _parameters(method: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(method).parameters
