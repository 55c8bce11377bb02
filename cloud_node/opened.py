"""A request that is open on a stream: what of it has come, what of it was known, and how far its answer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cloud_node.cache import Features
from cloud_node.flights import Flight
from cloud_node.metrics import CacheUse
from cloud_node.request import Request
from cloud_node.sequence import Event
from cloud_node.upload import Uploads
from wire.errors import CleaveError, DeadlineExceeded
from wire.v1 import inference_pb2 as pb

_CACHE_USES: dict[pb.Cache.ValueType, CacheUse] = {pb.CACHE_FEATURES: "features", pb.CACHE_ANSWER: "answer"}


@dataclass(slots=True, eq=False)
class OpenRequest:
    """`hear` is told what becomes of it. Inputs are referred to by their position."""

    request: Request
    model: str
    hear: Callable[[OpenRequest, Event], None]
    received_bytes: list[int]  # of each input's payload
    ready_s: float  # when the last byte came that it needs, monotonic
    payloads: dict[int, memoryview] = field(default_factory=dict)  # those that are here, whole
    feature_keys: dict[int, bytes] = field(
        default_factory=dict
    )  # of payloads that came from the cache, or are kept
    uploads: Uploads | None = None
    flight: Flight | None = None
    cache: pb.Cache.ValueType = pb.CACHE_MISS
    ttft_s: float | None = None  # from `ready_s` to its first text
    is_over: bool = False

    @property
    def cache_use(self) -> CacheUse:
        return _CACHE_USES.get(self.cache, "miss")

    @property
    def missing(self) -> list[int]:
        """The inputs whose payloads are not here."""
        return [index for index in range(len(self.request.inputs)) if index not in self.payloads]

    def take_cached(self, index: int, feature_key: bytes, features: Features) -> None:
        """An input's features were in the cache; they may be coded to other lengths than the edge's."""
        inputs = list(self.request.inputs)
        inputs[index] = replace(inputs[index], payload_sizes=features.payload_sizes)
        self.request = replace(self.request, inputs=tuple(inputs))
        self.payloads[index] = features.payload
        self.feature_keys[index] = feature_key
        self.cache = pb.CACHE_FEATURES

    def take_payloads(self) -> tuple[memoryview, ...]:
        """All payloads, in the inputs' order, which are held no longer."""
        taken = tuple(self.payloads[index] for index in range(len(self.request.inputs)))
        self.payloads = {}
        return taken

    def expired(self) -> CleaveError:
        """What it ends with when its time is over."""
        return DeadlineExceeded(
            f"the request took longer than its deadline of {self.request.deadline_s:g} s; allow more, or ask for less"
        )

    def tell(self, event: Event) -> None:
        """What a flight calls."""
        self.hear(self, event)

    def has_text(self, now_s: float) -> None:
        """Text came; the first is what the edge waits for."""
        if self.ttft_s is None:
            self.ttft_s = now_s - self.ready_s
