"""Many inputs through one chain together, each from the split point where it enters.

The chain's graphs have batch 1 baked in; `torch.vmap` runs them over more. A chain that vmap does not take, or does not
take rightly, is run one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from splitmodel.chain import Chain
from splitmodel.tensors import relative_error

Batching = Literal["vmap", "one by one"]
# Attention on the CPU has no rule of its own and is looped over, which is meant: it is no slower than one by one.
torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]

# Other shapes of the same products round otherwise; a wrong batch is off by far more.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_TOLERANCE_HALF = 5e-2


@dataclass(slots=True, eq=False)
class Entry:
    """One input: its tensors at `split_point`, and after a run those at the chain's end."""

    split_point: int
    tensors: list[Tensor]


class BatchedChain:
    """A chain and how it takes a batch, which is found out by trying on an input."""

    def __init__(self, chain: Chain, example: Sequence[Tensor]) -> None:
        self.chain = chain
        self.batching: Batching = "vmap" if _takes_vmap(chain, example) else "one by one"

    @torch.no_grad()
    def run(self, entries: Sequence[Entry]) -> None:
        """Every entry to the chain's end; at each stage, all that have entered by then go together."""
        if self.batching == "one by one" or len(entries) < 2:
            for entry in entries:
                entry.tensors = self.chain.run(entry.tensors, entry.split_point)
            return
        waiting = sorted(entries, key=lambda entry: entry.split_point)
        inside: list[Entry] = []
        batch: list[Tensor] = []
        for stage in range(waiting[0].split_point, self.chain.num_stages + 1):
            entering = [entry for entry in waiting if entry.split_point == stage]
            if entering:
                inside += entering
                batch = _join(batch, entering)
            if stage < self.chain.num_stages:
                batch = self._stage(batch, stage)
        for row, entry in enumerate(inside):
            entry.tensors = [tensor[row] for tensor in batch]

    def _stage(self, batch: list[Tensor], stage: int) -> list[Tensor]:
        if len(batch[0]) == 1:
            return [tensor.unsqueeze(0) for tensor in self.chain.run([t[0] for t in batch], stage, stage + 1)]
        return list(torch.vmap(lambda *tensors: self.chain.run(tensors, stage, stage + 1))(*batch))


def _join(batch: list[Tensor], entering: Sequence[Entry]) -> list[Tensor]:
    """A batch of [inputs, ...] tensors with further inputs behind."""
    columns = zip(*(entry.tensors for entry in entering), strict=True)
    stacked = [torch.stack(column) for column in columns]
    return [torch.cat(pair) for pair in zip(batch, stacked, strict=True)] if batch else stacked


def _takes_vmap(chain: Chain, example: Sequence[Tensor]) -> bool:
    """Whether every stage gives, for two different inputs at once, what it gives for each."""
    other = [tensor.flip(-1) for tensor in example]
    values = [list(example), other]
    for stage in range(chain.num_stages):
        after = [chain.run(one, stage, stage + 1) for one in values]
        batch = [torch.stack(pair) for pair in zip(*values, strict=True)]
        try:
            together = torch.vmap(lambda *tensors, at=stage: chain.run(tensors, at, at + 1))(*batch)
        except (RuntimeError, ValueError, NotImplementedError):
            return False
        for row, alone in enumerate(after):
            tolerance = _TOLERANCE.get(alone[0].dtype, _TOLERANCE_HALF)
            if not relative_error([tensor[row] for tensor in together], alone) <= tolerance:
                return False
        values = after
    return True
