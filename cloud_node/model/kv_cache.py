"""Keys and values of every running sequence: one row each of tensors that are allocated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from splitmodel.decoder import KVShape


@dataclass(slots=True)
class _Where:
    """What the decoder's next call reads and writes, for all layers."""

    rows: slice
    num_tokens: int  # of the longest row, those being written included
    write: Any  # index into [rows, heads, tokens, dim]
    is_step: bool


class KVCache:
    """[slots, heads, tokens, head_dim] for keys and values per layer; `cache` is what the decoder is handed."""

    def __init__(
        self, shapes: Sequence[KVShape], num_slots: int, num_tokens: int, dtype: torch.dtype, device: Any
    ) -> None:
        self.num_slots, self.num_tokens, self.dtype = num_slots, num_tokens, dtype
        self._where = _Where(slice(0, 0), 0, None, False)
        self._layers = [
            _Layer(self, *(torch.zeros(num_slots, heads, num_tokens, dim, dtype=dtype, device=device)
                           for heads, dim in (shape.keys, shape.values)))
            for shape in shapes
        ]  # fmt: skip
        self.cache: Any = Cache(layers=self._layers)
        self._row_ids = torch.arange(num_slots, device=device)
        self._num_held = [0] * num_slots  # tokens of each row that something may have been written to

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for layer in self._layers for tensor in (layer.keys, layer.values))

    def at_chunk(self, row: int, start: int, stop: int) -> Any:
        """The cache for one row's tokens `start` to `stop` - 1."""
        self._num_held[row] = max(self._num_held[row], stop)
        self._where = _Where(
            slice(row, row + 1), stop, (slice(row, row + 1), slice(None), slice(start, stop)), False
        )
        return self.cache

    def at_step(self, first_row: int, positions: Tensor, num_tokens: int) -> Any:
        """The cache for one token of each row from `first_row` on, written at `positions` [rows]."""
        last_row = first_row + len(positions)
        for row in range(first_row, last_row):
            self._num_held[row] = max(self._num_held[row], num_tokens)
        write = (self._row_ids[first_row:last_row], slice(None), positions)
        self._where = _Where(slice(first_row, last_row), num_tokens, write, True)
        return self.cache

    def move(self, source: int, target: int, num_tokens: int) -> None:
        """Copies a row's first tokens to another row, which then holds nothing else."""
        for layer in self._layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, :num_tokens] = tensor[source, :, :num_tokens]
        self.clear(target, num_tokens)

    def clear(self, row: int, start: int) -> None:
        """Zeros in a row's tokens from `start` on.

        Attention gives what it masks the weight 0, and 0 times what is not finite is not: so what one sequence left
        in its row would end the next one in it.
        """
        for layer in self._layers:
            for tensor in (layer.keys, layer.values):
                tensor[row, :, start : self._num_held[row]] = 0
        self._num_held[row] = start

    def take(self, row: int, num_tokens: int) -> list[Tensor]:
        """Copies of a row's first tokens: keys and values of each layer in turn, [heads, tokens, dim]."""
        return [
            tensor[row, :, :num_tokens].clone()
            for layer in self._layers
            for tensor in (layer.keys, layer.values)
        ]

    def put(self, row: int, kept: Sequence[Tensor], num_tokens: int) -> None:
        """Writes the first tokens of what `take` gave into a row."""
        tensors = [tensor for layer in self._layers for tensor in (layer.keys, layer.values)]
        for tensor, values in zip(tensors, kept, strict=True):
            tensor[row, :, :num_tokens] = values[:, :num_tokens]


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """One layer's rows. Attention gets views of them, never copies."""

    def __init__(self, owner: KVCache, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.owner = owner
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, *_: Any) -> None:
        """Allocated from the start."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        where = self.owner._where
        # An index per row puts the heads behind the rows: [rows, heads, dim].
        self.keys[where.write] = keys[:, :, 0] if where.is_step else keys
        self.values[where.write] = values[:, :, 0] if where.is_step else values
        return self.keys[where.rows, :, : where.num_tokens], self.values[where.rows, :, : where.num_tokens]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner._where.num_tokens, 0

    def get_seq_length(self) -> int:
        return self.owner._where.num_tokens

    def get_max_length(self) -> int:
        return self.owner.num_tokens
