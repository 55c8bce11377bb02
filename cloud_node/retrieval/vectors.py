"""Indexes of vectors: what the cloud asks of whatever keeps them. Blocking; called in threads of the loop's pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloud_node.asked.tenants import ANYBODY, Tenant


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that was found."""

    item_id: str
    similarity: float  # cosine


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest items first, and how many there are in the index."""

    hits: tuple[Hit, ...]
    num_items: int


class VectorIndexes(Protocol):
    """Named indexes, of one model's vectors each: what another bundle made is another index, whatever its name.

    So is another tenant's: nobody finds, adds to, or counts what is not theirs.
    """

    def add(
        self,
        index: str,
        bundle_digest: str,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        tenant: Tenant = ANYBODY,
    ) -> int:
        """Keeps [items, dim] vectors of length 1 on disk; an item that is there is replaced. How many there are then.

        Raises TooLarge where there is no room, LimitReached where the tenant may keep no more, Corrupt where the index
        is damaged.
        """

    def search(
        self,
        index: str,
        bundle_digest: str,
        vector: NDArray[np.float32],
        num_hits: int,
        tenant: Tenant = ANYBODY,
    ) -> Found:
        """What is nearest to a vector; raises BadInput where there is no such index, Corrupt where it is damaged."""
