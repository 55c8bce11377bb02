"""What this cloud serves, model by model, and what it allows one request. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wire.errors import UnknownSplitPoint
from wire.limits import Limits
from wire.manifest import Chain, Manifest
from wire.modality import Modality

# How sequences decode; nothing where a model generates nothing.
Decoding = Literal["batched", "one by one", ""]


@dataclass(frozen=True, slots=True)
class Served:
    """One model as this cloud serves it: its bundle, and why a split point is not served."""

    name: str
    manifest: Manifest
    bundle_digest: str
    refused: Mapping[str, Mapping[int, str]] = field(default_factory=dict)  # chain id, split point -> reason
    tail_batching: Mapping[str, str] = field(default_factory=dict)  # by chain id: "vmap" or "one by one"
    decoding: Decoding = "batched"
    samples_by_default: bool = False  # where a request names no temperature
    defaults_digest: str = ""  # of the generation config and the chat template: they decide answers, too
    rate_hz: int = 0  # samples a second of the sounds that it takes
    languages: tuple[str, ...] = ()  # that its generation config lists, as "<|fr|>"
    tasks: tuple[str, ...] = ()

    def chain(self, modality: Modality, shape_id: str) -> Chain:
        """One that the bundle lists; raises BadInput where it lists none of that modality, or of that shape."""
        return self.manifest.chain(modality, shape_id)

    def require_served(self, chain: Chain, split_point: int) -> None:
        """Raises UnknownSplitPoint where it is none, or not served."""
        last = len(chain.split_points) - 1
        if split_point > last:
            raise UnknownSplitPoint(
                f"{chain.chain_id} of {self.name} has the split points 0 to {last}, not {split_point}"
            )
        reason = self.refused.get(chain.chain_id, {}).get(split_point)
        if reason is not None:
            raise UnknownSplitPoint(
                f"split point {split_point} of {chain.chain_id} is not served here: {reason}; use another one"
            )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operator allows one request."""

    limits: Limits
    default_deadline_s: float
    max_deadline_s: float
