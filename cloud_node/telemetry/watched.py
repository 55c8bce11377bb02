"""The families of metrics that are read when somebody asks for the exposition: their names, and their collector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

# With labels: by their values, in the family's order.
Reading = float | Mapping[tuple[str], float] | Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class _Watched:
    name: str
    help: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False


Watch = Literal[
    "requests_queued", "requests_open", "requests_detached", "requests_joined", "requests_joined_elsewhere",
    "streams_open", "slots", "slots_used", "redis_up", "redis_troubles",
    "sequences_decoding", "sequences_prefilling", "cache_bytes", "cache_entries", "cache_evictions",
    "cache_lookups", "prefix_bytes", "prefix_entries", "prefix_hits", "ready", "draining", "held_bytes",
]  # fmt: skip

WATCHED: dict[Watch, _Watched] = {
    "requests_queued": _Watched("cleave_requests_queued", "Requests that wait for a slot.", ("model",)),
    "requests_open": _Watched("cleave_requests_open", "Requests without Done or Failed, uploads included."),
    "requests_detached": _Watched(
        "cleave_requests_detached", "Requests, or their answers, that wait for an edge whose stream was lost."
    ),
    "requests_joined": _Watched(
        "cleave_requests_joined", "Requests that waited for the answer of an equal one.", is_counter=True
    ),
    "held_bytes": _Watched("cleave_held_bytes", "Reserved for payloads that are uploaded, or wait."),
    "requests_joined_elsewhere": _Watched(
        "cleave_requests_joined_elsewhere",
        "Requests that got the answer of an equal one on another cloud.",
        is_counter=True,
    ),
    "streams_open": _Watched("cleave_streams_open", "Streams of edges."),
    "slots": _Watched("cleave_slots", "Rows of the cache of keys and values.", ("model",)),
    "slots_used": _Watched("cleave_slots_used", "Rows that a sequence has.", ("model",)),
    "sequences_decoding": _Watched(
        "cleave_sequences_decoding", "Sequences that get a token at every step.", ("model",)
    ),
    "sequences_prefilling": _Watched(
        "cleave_sequences_prefilling", "Sequences whose prompt is being read.", ("model",)
    ),
    "cache_bytes": _Watched("cleave_cache_bytes", "Bytes in the cache of answers and features.", ("store",)),
    "cache_entries": _Watched("cleave_cache_entries", "Entries in that cache.", ("store",)),
    "cache_evictions": _Watched(
        "cleave_cache_evictions", "Entries that made room for others.", ("store",), is_counter=True
    ),
    "cache_lookups": _Watched(
        "cleave_cache_lookups", "Look-ups in that cache.", ("kind", "outcome"), is_counter=True
    ),
    "redis_up": _Watched("cleave_redis_up", "1 while Redis answers, else 0."),
    "redis_troubles": _Watched(
        "cleave_redis_troubles",
        "Look-ups that Redis did not answer in time, and values that it did not take.",
        ("reason",),
        is_counter=True,
    ),
    "prefix_bytes": _Watched(
        "cleave_prefix_bytes", "Bytes of keys and values of prompts that were read.", ("model",)
    ),
    "prefix_entries": _Watched(
        "cleave_prefix_entries", "Prompts whose keys and values are kept.", ("model",)
    ),
    "prefix_hits": _Watched(
        "cleave_prefix_hits", "Prompts that began with a kept one.", ("model",), is_counter=True
    ),
    "ready": _Watched("cleave_ready", "1 while new requests are taken, else 0."),
    "draining": _Watched("cleave_draining", "1 from SIGTERM on, else 0."),
}
assert set(WATCHED) == set(get_args(Watch))


class Watching:
    """A collector of the families that are read when asked; one that nobody watches has no samples."""

    def __init__(self, reads: Mapping[Watch, Callable[[], Reading]]) -> None:
        self._reads = reads

    def collect(self) -> Iterator[Metric]:
        for name, watched in WATCHED.items():
            kind = CounterMetricFamily if watched.is_counter else GaugeMetricFamily
            family = kind(watched.name, watched.help, labels=watched.labels)
            if (read := self._reads.get(name)) is not None:
                value = read()
                # Copied at once: its owner's thread may add to it meanwhile.
                by_label = dict(value) if isinstance(value, Mapping) else {(): value}
                for labels, number in by_label.items():
                    family.add_metric(labels, number)
            yield family
