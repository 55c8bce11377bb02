"""The runner: requests to prompts, prompts to keys and values, rows to tokens. The engine decides, this computes.

`prepare` may run on one thread while all else runs on another: they share the weights, and nothing that changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cloud_node.asked.sequence import Embeddings
from cloud_node.asked.sequence import Sequence as Generation
from cloud_node.model.kv_cache import KVCache
from cloud_node.model.prefix import PrefixStore
from cloud_node.model.prepare import Preparer
from cloud_node.model.prompt import ModelPrompt
from cloud_node.model.sampling import choose
from splitmodel.decoder import Decoder
from wire.errors import CleaveError

# Of a model that reads 128 Ki tokens, rows of all of them would take all memory.
_MOST_BY_DEFAULT = 4096
# What configs call the longest that a decoder reads.
_CONTEXT_NAMES = ("max_position_embeddings", "max_target_positions", "n_positions")


@dataclass(frozen=True, slots=True)
class Room:
    """What is allocated for keys and values: rows of so many tokens (0: the model's context), and shared prefixes."""

    num_slots: int = 16
    context_tokens: int = 0
    prefix_bytes: int = 256 << 20
    compiled: bool = False

    def row_tokens(self, model: Any) -> int:
        """The longest that prompt and answer may be together; what the model reads, or less."""
        text_config = model.config.get_text_config(decoder=True)
        named = (getattr(text_config, name, None) for name in _CONTEXT_NAMES)
        reads = next((length for length in named if length), _MOST_BY_DEFAULT)
        return int(min(reads, self.context_tokens or _MOST_BY_DEFAULT, *_turning_points(text_config)))


def _turning_points(text_config: Any) -> list[int]:
    """Lengths past which a model takes other rotations for all its rows: one long row would change the others."""
    rope = getattr(text_config, "rope_parameters", None) or {}
    by_kind = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return [one["original_max_position_embeddings"] for one in by_kind if one.get("rope_type") == "longrope"]


class ModelRunner:
    """One model: what prepares its requests, and the rows of a KV cache that are read and continued."""

    def __init__(self, preparer: Preparer, decoder: Decoder, room: Room) -> None:
        self.preparer = preparer
        self.decoder = decoder
        model = preparer.adapter.model
        self.device = model.device
        num_tokens = room.row_tokens(model)
        self.kv = KVCache(self.decoder.layers, room.num_slots, num_tokens, model.dtype, self.device)
        self.prefixes = PrefixStore(room.prefix_bytes)
        self._token_ids = torch.arange(num_tokens, device=self.device)

    def prepare(self, sequences: Sequence[Generation]) -> Iterator[Exception | Embeddings | None]:
        """Makes one after the other ready for the decoder, or says why it cannot be."""
        return self.preparer.prepare(sequences)

    def begin(self, prompt: ModelPrompt, row: int) -> int:
        """Fills a new row with what is known of the prompt; returns how many tokens that is."""
        shared, kept = self.prefixes.find(prompt.prefix, prompt.call, prompt.cuts)
        self.kv.clear(row, shared)
        if shared:
            self.kv.put(row, kept, shared)
        prompt.num_cached = shared
        return shared

    @torch.no_grad()
    def read(self, prompt: ModelPrompt, row: int, start: int, stop: int) -> int | CleaveError | None:
        """Reads a prompt's tokens `start` to `stop` - 1; once that is all, gives the first token of the answer."""
        call, is_last = prompt.call, stop == prompt.num_tokens
        masks = {kind: mask[None, None, start:stop, :stop] for kind, mask in call.masks.items()}
        logits = self.decoder.run(
            call.inputs_embeds[:, start:stop],
            call.position_ids[..., start:stop],
            masks,
            self.kv.at_chunk(row, start, stop),
        )
        prompt.num_cached = stop
        if not is_last:
            return None
        key = prompt.prefix
        if key is not None and self.prefixes.max_bytes and not self.prefixes.has(key):
            self.prefixes.keep(key, call, self.kv.take(row, stop))
        return choose(logits, [prompt.choice])[0]

    @torch.no_grad()
    def step(self, prompts: Sequence[ModelPrompt], first_row: int = 0) -> list[int | CleaveError]:
        """The next token of each row from `first_row` on."""
        lengths = [prompt.num_cached for prompt in prompts]
        written = torch.tensor(lengths, device=self.device)
        num_tokens = max(lengths) + 1
        token_ids = torch.tensor([[prompt.choice.token_ids[-1]] for prompt in prompts], device=self.device)
        logits = self.decoder.run(
            self.decoder.embed(token_ids),
            self._positions(prompts),
            self._step_masks(written, num_tokens),
            self.kv.at_step(first_row, written, num_tokens),
        )
        chosen = choose(logits, [prompt.choice for prompt in prompts])
        for prompt in prompts:
            prompt.num_cached += 1
        return chosen

    def move(self, source: int, target: int, prompt: ModelPrompt) -> None:
        """A row's content goes to another row."""
        self.kv.move(source, target, prompt.num_cached)

    def _positions(self, prompts: Sequence[ModelPrompt]) -> Tensor:
        """[batch, 1], or [axes, batch, 1] for a model with several axes of positions."""
        rows = [
            [position + prompt.choice.num_chosen - 1 for position in prompt.step_positions]
            for prompt in prompts
        ]
        positions = torch.tensor(rows, device=self.device)
        return positions if prompts[0].call.position_ids.dim() == 2 else positions.T.unsqueeze(-1)

    def _step_masks(self, written: Tensor, num_tokens: int) -> dict[str, Tensor]:
        """By kind of attention, [batch, 1, 1, tokens]: up to itself, and no further back than its window."""
        token_ids, own = self._token_ids[:num_tokens], written[:, None]
        masks = {}
        for kind, window in self.decoder.windows.items():
            mask = token_ids <= own
            if window is not None:
                mask = mask & (token_ids > own - window)
            masks[kind] = mask[:, None, None]
        return masks
