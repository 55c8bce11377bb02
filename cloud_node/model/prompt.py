"""A request that is ready for the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloud_node.model.prefix import PrefixKey
from cloud_node.model.sampling import Choice
from splitmodel.recording import PrefillCall


@dataclass(slots=True, eq=False)
class ModelPrompt:
    """What the decoder will read, how its tokens are chosen, and how far its row is."""

    call: PrefillCall
    cuts: tuple[int, ...]
    choice: Choice
    stop_ids: frozenset[int]
    max_new_tokens: int
    step_positions: tuple[int, ...]  # of the first generated token, one per axis of positions
    prefix: PrefixKey | None = None
    num_cached: int = 0  # tokens whose keys and values are in the row

    @property
    def num_tokens(self) -> int:
        return self.call.num_tokens


def chunk_cuts(masks: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Where a prompt may be cut: no token before a cut reads one behind it. Ascending, the prompt's end last."""
    furthest: NDArray[np.int64] | None = None
    for mask in masks.values():
        read = mask.cpu().numpy()
        last = read.shape[1] - 1 - read[:, ::-1].argmax(1)
        furthest = last if furthest is None else np.maximum(furthest, last)
    assert furthest is not None
    reach = np.maximum.accumulate(furthest)
    ends = np.arange(1, len(reach) + 1)
    return tuple(ends[reach < ends].tolist())
