"""What the streams of one cloud share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cloud_node.access.quotas import Quotas
from cloud_node.asked.held_bytes import MAX_HELD_BYTES, HeldBytes
from cloud_node.asked.served import Bounds, Served
from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.retrieval.vectors import VectorIndexes
from cloud_node.streams.messages import describe_reply
from cloud_node.streams.rollout import is_told_of_next
from cloud_node.telemetry.metrics import Metrics
from cloud_node.telemetry.spans import NoSpans, Spans
from wire.errors import IncompatibleBundle, UnknownModel
from wire.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True, eq=False)
class Hosted:
    """One bundle of a model, and the flights of its requests; `later` are further bundles of the same name.

    The first of these is the next one, which a rollout tells edges of; all are served.
    """

    served: Served
    flights: Flights
    later: tuple[Hosted, ...] = ()

    @property
    def versions(self) -> tuple[Hosted, ...]:
        return (self, *self.later)


def _none(model: str) -> float:
    return 0.0


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
    held: HeldBytes = field(default_factory=lambda: HeldBytes(MAX_HELD_BYTES))
    quotas: Quotas = field(default_factory=Quotas)
    share_of: Callable[[str], float] = _none  # of the edges that are told of a model's next bundle

    def find(self, name: str, digest: str, edge_id: str) -> Hosted:
        """The bundle of that digest; without one, that which this edge is told of.

        Raises UnknownModel, or IncompatibleBundle, which name those that are here.
        """
        hosted = self.models.get(name)
        if hosted is None:
            names = ", ".join(map(repr, self.models))
            raise UnknownModel(f"this cloud serves {names}, not {name[:256]!r}; see `cleave describe`")
        if not digest:
            return self.told(hosted, edge_id)
        for version in hosted.versions:
            if version.served.bundle_digest == digest:
                return version
        others = "".join(f", or {one.served.bundle_digest[:12]!r}" for one in hosted.later)
        raise IncompatibleBundle(
            f"the edge holds bundle {digest[:12]!r} of {name}, and this cloud serves "
            f"{hosted.served.bundle_digest[:12]!r}{others}; fetch it again"
        )

    def told(self, hosted: Hosted, edge_id: str) -> Hosted:
        """The bundle of a model that an edge is told to use."""
        name = hosted.served.name
        is_next = bool(hosted.later) and is_told_of_next(edge_id, name, self.share_of(name))
        return hosted.later[0] if is_next else hosted

    def describe(self, edge_id: str) -> pb.DescribeReply:
        """Every model as this edge is told of it."""
        told = [self.told(hosted, edge_id).served for hosted in self.models.values()]
        digests = {
            name: [version.served.bundle_digest for version in hosted.versions]
            for name, hosted in self.models.items()
        }
        return describe_reply(told, self.bounds, self.server_version, digests)
