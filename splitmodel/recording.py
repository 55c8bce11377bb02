"""Recorded prefill: the model's own `generate` runs up to its decoder's first two calls, whose arguments are kept.

Fusion, positions and masks are so the model's own, whatever its family does about them. The decoder does not run:
its layers are replaced by ones that only note the mask that they were given.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.modeling_outputs import BaseModelOutputWithPast

from splitmodel.model_call import ModelCall
from splitmodel.twin import eager_configs, name_of, shallow, twin_with
from wire.errors import BadInput

# What a decoder's call says beside these would be lost on the way through the engine.
_UNDERSTOOD = {
    "attention_mask",
    "position_ids",
    "past_key_values",
    "inputs_embeds",
    "input_ids",
    "cache_position",
}
FULL = "full_attention"


@dataclass(frozen=True, slots=True)
class PrefillCall:
    """One sequence, as its model hands it to the decoder, batch 1."""

    input_ids: NDArray[np.int64]  # [tokens]
    inputs_embeds: Tensor  # [1, tokens, dim]
    position_ids: Tensor  # [..., 1, tokens]; Qwen's has four axes of positions in front
    step_position_ids: Tensor  # [..., 1, 1], of the first token that is generated
    masks: dict[
        str, Tensor
    ]  # kind of attention -> bool [tokens, tokens], True where a token (row) reads another

    @property
    def num_tokens(self) -> int:
        return int(self.inputs_embeds.shape[1])


class Recorder:
    """Records the decoder's calls of one model. Every recording runs on a twin of its own."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.decoder = model.get_decoder()
        if self.decoder is model:
            raise BadInput(
                f"{type(model).__name__} names no decoder of its own, so its prefill cannot be recorded"
            )
        self._name = name_of(model, self.decoder)
        self._layers = _layers_name(self.decoder)
        self._signatures = [inspect.signature(layer.forward) for layer in getattr(self.decoder, self._layers)]
        self._eager = eager_configs(model.config)
        self.kinds = _layer_kinds(self.decoder)

    @torch.no_grad()
    def prefill(self, call: ModelCall) -> PrefillCall:
        """The decoder's call inside a call of the whole model; raises BadInput for one that says more than the engine
        understands."""
        calls: list[dict[str, Any]] = []
        masks: dict[str, Tensor] = {}
        cache = _lengths(len(self.kinds))

        def forward(**arguments: Any) -> BaseModelOutputWithPast:
            arguments = {key: value for key, value in arguments.items() if value is not None}
            calls.append(arguments)
            if len(calls) == 2:
                raise _Recorded
            masks.update(self._masks(arguments))
            embeds = self._embeds(arguments)
            for layer in cache.layers:
                layer.hold(embeds.shape[1])
            return BaseModelOutputWithPast(last_hidden_state=torch.zeros_like(embeds), past_key_values=cache)

        stand_in = shallow(self.decoder)
        stand_in.forward = forward
        try:
            twin_with(call.model, self._name, stand_in, self._eager).generate(
                **call.inputs, past_key_values=cache, do_sample=False, max_new_tokens=2, min_new_tokens=2
            )
        except _Recorded:
            first, second = calls
            return self._call(call.inputs, first, second, masks)
        raise BadInput("the model called its decoder once where two calls were to be recorded")

    @torch.no_grad()
    def step_masks(self, num_past: int) -> dict[str, Tensor]:
        """Which of `num_past` earlier tokens and itself one new token reads, by kind of attention: bool [tokens]."""
        width = self._model.get_input_embeddings().weight.shape[1]
        cache = _lengths(len(self.kinds), num_past)
        device, dtype = self._model.device, self._model.dtype
        arguments = {
            "inputs_embeds": torch.zeros(1, 1, width, device=device, dtype=dtype),
            "position_ids": torch.full((1, 1), num_past, device=device),
            "past_key_values": cache,
            "use_cache": True,
        }
        return {kind: mask[0] for kind, mask in self._masks(arguments).items()}

    def through_model(self, hidden: Tensor) -> Tensor:
        """What the model makes of its decoder's output: [batch, tokens, dim] to logits [batch, tokens, vocabulary]."""
        stand_in = shallow(self.decoder)
        stand_in.forward = lambda **_: BaseModelOutputWithPast(last_hidden_state=hidden)
        twin = twin_with(self._model, self._name, stand_in)
        positions = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        logits: Tensor = twin(inputs_embeds=hidden, position_ids=positions, use_cache=False).logits
        return logits

    def _call(
        self,
        inputs: Mapping[str, Any],
        first: dict[str, Any],
        second: dict[str, Any],
        masks: dict[str, Tensor],
    ) -> PrefillCall:
        for arguments in (first, second):
            more = [
                key for key, value in arguments.items() if _says_something(value) and key not in _UNDERSTOOD
            ]
            if more or "position_ids" not in arguments:
                what = f"also takes {', '.join(more)}" if more else "is given no positions"
                raise BadInput(f"the decoder {what}, which the engine does not serve; use another model")
        ids = inputs["input_ids"][0].cpu().numpy()
        return PrefillCall(ids, self._embeds(first), first["position_ids"], second["position_ids"], masks)

    def _embeds(self, arguments: Mapping[str, Any]) -> Tensor:
        given: Tensor | None = arguments.get("inputs_embeds")
        return given if given is not None else self._model.get_input_embeddings()(arguments["input_ids"])

    def _masks(self, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        """Runs the decoder's own code around its layers, with attention that must state its mask."""
        twin = shallow(self.decoder)
        twin.config = self._eager[id(self.decoder.config)]
        noted: list[Tensor | None] = []
        pairs = list(zip(getattr(self.decoder, self._layers), self._signatures, strict=True))
        layers = [_NotingLayer(layer, signature, noted, len(pairs)) for layer, signature in pairs]
        twin._modules[self._layers] = nn.ModuleList(layers)
        with contextlib.suppress(_Recorded):
            twin(**{**arguments, "use_cache": True})
        masks: dict[str, Tensor] = {}
        for kind, mask in zip(self.kinds, noted, strict=True):
            if mask is None or mask.dim() != 4:
                raise BadInput(
                    "a layer of the decoder is given no mask, and none is assumed; use another model"
                )
            # Eager attention adds its mask: 0 where a token may be read, a large negative number where not.
            read = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
            if kind in masks and not torch.equal(masks[kind], read):
                raise BadInput(
                    f"two layers of the decoder's kind {kind} are given different masks; use another model"
                )
            masks[kind] = read
        return masks


class _Recorded(Exception):
    """All that was to be heard has been heard."""


class _NotingLayer(nn.Module):
    """In a layer's place: notes its mask and hands its input on."""

    def __init__(
        self, layer: nn.Module, signature: inspect.Signature, noted: list[Tensor | None], num_layers: int
    ) -> None:
        super().__init__()
        # What the decoder reads of its layers to choose their masks.
        self.__dict__.update({k: v for k, v in layer.__dict__.items() if not k.startswith("_")})
        self._signature = signature
        self._noted = noted
        self._num_layers = num_layers

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        given = self._signature.bind(*args, **kwargs).arguments
        given = {**given, **given.get("kwargs", {})}
        self._noted.append(given.get("attention_mask"))
        if len(self._noted) == self._num_layers:
            raise _Recorded
        hidden: Tensor = next(iter(given.values()))
        return hidden


class _LengthLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """A layer of a cache that holds nothing and says how much it would hold."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = 0
        self.hold(length)

    def hold(self, num_tokens: int) -> None:
        """As if that many tokens had come; models tell a prefill from what follows by whether a cache is in use."""
        self.length += num_tokens
        self.is_initialized = self.length > 0

    def lazy_initialization(self, *_: Any) -> None:
        """Nothing to make."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


def _lengths(num_layers: int, length: int = 0) -> Any:
    return Cache(layers=[_LengthLayer(length) for _ in range(num_layers)])


def _layers_name(decoder: Any) -> str:
    """The decoder's list of layers."""
    count = decoder.config.num_hidden_layers
    for name, child in decoder.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == count:
            return str(name)
    raise BadInput(
        f"{type(decoder).__name__} has no list of {count} layers, so its prefill cannot be recorded"
    )


def _layer_kinds(decoder: Any) -> tuple[str, ...]:
    """Kind of attention of every layer, in transformers' words."""
    config = decoder.config
    kinds = getattr(config, "layer_types", None) or [FULL] * config.num_hidden_layers
    return tuple(str(kind) for kind in kinds)


def _says_something(value: Any) -> bool:
    return isinstance(value, (Tensor, list, tuple, dict))
