"""What the streams of one cloud share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_node.cache import Cache
from cloud_node.flights import Flights
from cloud_node.metrics import Metrics
from cloud_node.served import Bounds, Served
from cloud_node.spans import NoSpans, Spans
from cloud_node.vectors import VectorIndexes
from wire.errors import UnknownModel


@dataclass(frozen=True, slots=True)
class Hosted:
    """One model, and the flights of its requests."""

    served: Served
    flights: Flights


@dataclass(frozen=True, slots=True)
class Host:
    """The models are by the name that they are served under, the first one first."""

    models: Mapping[str, Hosted]
    bounds: Bounds
    server_version: str
    cache: Cache
    indexes: VectorIndexes | None = None  # where the operator gave a folder for them
    metrics: Metrics = field(default_factory=Metrics)
    spans: Spans = field(default_factory=NoSpans)

    def find(self, name: str) -> Hosted:
        """Raises UnknownModel, which names those that are here."""
        hosted = self.models.get(name)
        if hosted is None:
            names = ", ".join(map(repr, self.models))
            raise UnknownModel(f"this cloud serves {names}, not {name[:256]!r}; see `cleave describe`")
        return hosted
