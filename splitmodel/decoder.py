"""The language half of a model, called as the engine does: explicit masks and positions, a cache from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import DynamicCache

from splitmodel.model_call import ModelCall
from splitmodel.recording import PrefillCall, Recorder
from wire.errors import BadInput

# Past the window by so much, a window shows.
_BEYOND_WINDOW = 8


@dataclass(frozen=True, slots=True)
class KVShape:
    """What one layer keeps of a token, for keys and for values: [heads, head_dim]."""

    keys: tuple[int, int]
    values: tuple[int, int]


class Decoder:
    """Runs chunks of prompts and tokens of many sequences; learns at start how one token reads the earlier ones."""

    def __init__(self, model: Any) -> None:
        self.recorder = Recorder(model)
        self._module = self._stepping = self.recorder.decoder
        self._embed = model.get_input_embeddings()
        self._adds_masks = _adds_masks(self._module)
        self.kinds = tuple(dict.fromkeys(self.recorder.kinds))
        self.windows = {kind: self._window(kind, mask) for kind, mask in self._step_masks().items()}
        self.layers = self._kv_shapes(model)
        self._logits = self._logits_function(model)

    @torch.no_grad()
    def run(self, hidden: Tensor, positions: Tensor, masks: Mapping[str, Tensor], cache: Any) -> Tensor:
        """[batch, tokens, dim] embeddings to the logits of each row's last token, [batch, vocabulary].

        `positions` are [..., batch, tokens]; `masks` have, by kind of attention, [batch, 1, tokens, tokens so far]
        bool; `cache` takes the keys and values.
        """
        module = self._stepping if hidden.shape[1] == 1 else self._module
        if self._adds_masks:
            masks = {kind: _to_add(mask, hidden.dtype) for kind, mask in masks.items()}
        output = module(
            inputs_embeds=hidden,
            attention_mask=dict(masks) if len(self.kinds) > 1 else masks[self.kinds[0]],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return self._logits(output.last_hidden_state[:, -1:])[:, -1]

    def compile(self) -> None:
        """From now on, steps of one token per row run compiled, for batches and lengths of any size."""
        self._stepping = torch.compile(self._module, dynamic=True)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, tokens] to [batch, tokens, dim]."""
        embedded: Tensor = self._embed(token_ids)
        return embedded

    def embed_ids(self, token_ids: NDArray[np.int64]) -> Tensor:
        """The embeddings of a prompt's ids, [1, tokens, dim]; a placeholder outside the vocabulary has any."""
        ids = torch.from_numpy(token_ids).to(self._embed.weight.device)
        return self.embed(ids.clamp(max=self._embed.weight.shape[0] - 1)[None])

    def _step_masks(self) -> dict[str, Tensor]:
        config = self._module.config
        longest = max(
            [0, *(getattr(config, name, None) or 0 for name in ("sliding_window", "attention_chunk_size"))]
        )
        return self.recorder.step_masks(longest + _BEYOND_WINDOW)

    def _window(self, kind: str, mask: Tensor) -> int | None:
        """How many tokens, itself included, a new token reads; None for all. Raises BadInput for another pattern."""
        read = int(mask.sum())
        is_suffix = bool(mask[-read:].all())
        if not is_suffix or "chunk" in kind:
            raise BadInput(
                f"the decoder's {kind.replace('_', ' ')} reads neither all earlier tokens nor the last ones, which "
                "the engine does not serve; use another model"
            )
        return None if read == len(mask) else read

    @torch.no_grad()
    def _kv_shapes(self, model: Any) -> tuple[KVShape, ...]:
        """Runs one token and looks at what was kept."""
        cache = DynamicCache()
        ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        masks = {kind: torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device) for kind in self.kinds}
        mask = masks if len(self.kinds) > 1 else masks[self.kinds[0]]
        self._module(
            inputs_embeds=self.embed(ids), attention_mask=mask, past_key_values=cache, use_cache=True
        )
        if len(cache.layers) != len(self.recorder.kinds):
            raise BadInput(
                f"{len(cache.layers)} of the decoder's {len(self.recorder.kinds)} layers keep keys and values, and "
                "only a decoder whose layers all do is served; use another model"
            )
        return tuple(
            KVShape(tuple(layer.keys.shape[1::2]), tuple(layer.values.shape[1::2])) for layer in cache.layers
        )

    @torch.no_grad()
    def _logits_function(self, model: Any) -> Callable[[Tensor], Tensor]:
        """The output embeddings alone where that is all the model does (it may scale or cap what they give)."""
        head = model.get_output_embeddings()
        width = self._embed.weight.shape[1]
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(2, 1, width, generator=generator).to(model.device, model.dtype)
        through = self.recorder.through_model
        if head is None or not torch.equal(head(hidden), through(hidden)):
            return through
        return cast("Callable[[Tensor], Tensor]", head)

    def record(self, whole: ModelCall) -> PrefillCall:
        """The prefill of a call of the whole model; raises BadInput where what follows would not read all of it."""
        call = self.recorder.prefill(whole)
        for kind, mask in call.masks.items():
            window = self.windows[kind] or call.num_tokens
            # A token that the last one of the prompt does not read is hidden from those after it, too.
            if not bool(mask[-1, -window:].all()):
                raise BadInput(
                    "some tokens of the prompt are hidden from its last one, which the engine does not serve; use "
                    "another model"
                )
        return call


def _adds_masks(decoder: Any) -> bool:
    """Whether its attention adds masks to the scores; another takes them as they are."""
    attention = decoder.config._attn_implementation
    if attention not in ("eager", "sdpa"):
        raise BadInput(
            f"the decoder's attention {attention} takes no mask of the engine's; load it with sdpa or eager"
        )
    return bool(attention == "eager")


def _to_add(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token may be read, and where not a number that leaves it no weight."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )
