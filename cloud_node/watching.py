"""Which part of the cloud each number comes from that is read when somebody asks for the metrics."""

from __future__ import annotations

from cloud_node.cache import Cache
from cloud_node.engine import Engine
from cloud_node.flights import Flights
from cloud_node.metrics import Metrics
from cloud_node.prefix import PrefixStore
from cloud_node.service import InferenceService
from cloud_node.store import MemoryStore


def watch_engine(metrics: Metrics, engine: Engine) -> None:
    metrics.watch("requests_queued", lambda: engine.num_waiting)
    metrics.watch("slots", lambda: engine.settings.num_slots)
    metrics.watch("slots_used", lambda: engine.num_running)
    metrics.watch("sequences_decoding", lambda: engine.batch.num_decoding)
    metrics.watch("sequences_prefilling", lambda: engine.batch.num_reading)


def watch_service(metrics: Metrics, service: InferenceService) -> None:
    metrics.watch("streams_open", lambda: service.num_streams)
    metrics.watch("requests_open", lambda: service.num_requests)


def watch_cache(metrics: Metrics, cache: Cache, flights: Flights) -> None:
    metrics.watch("cache_lookups", lambda: cache.counts)
    metrics.watch("requests_joined", lambda: flights.num_joined)


def watch_store(metrics: Metrics, store: MemoryStore) -> None:
    metrics.watch("cache_bytes", lambda: {("memory",): store.num_bytes})
    metrics.watch("cache_entries", lambda: {("memory",): store.num_entries})
    metrics.watch("cache_evictions", lambda: {("memory",): store.num_evicted})


def watch_prefixes(metrics: Metrics, prefixes: PrefixStore) -> None:
    metrics.watch("prefix_bytes", lambda: prefixes.num_bytes)
    metrics.watch("prefix_entries", lambda: len(prefixes))
    metrics.watch("prefix_hits", lambda: prefixes.num_hits)
