"""Which part of the cloud each number comes from that is read when somebody asks for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.caching.redis_link import RedisLink
from cloud_node.caching.redis_store import RedisStore
from cloud_node.caching.store import MemoryStore
from cloud_node.engine.engine import Engine
from cloud_node.model.prefix import PrefixStore
from cloud_node.service import InferenceService
from cloud_node.telemetry.health import Health, Stage
from cloud_node.telemetry.metrics import Metrics
from cloud_node.telemetry.watched import Reading, Watch

T = TypeVar("T")


def watch_engines(metrics: Metrics, engines: Mapping[str, Engine]) -> None:
    """By the name of their model."""
    reads: dict[Watch, Callable[[Engine], float]] = {
        "requests_queued": lambda engine: engine.num_waiting,
        "slots": lambda engine: engine.settings.num_slots,
        "slots_used": lambda engine: engine.num_running,
        "sequences_decoding": lambda engine: engine.batch.num_decoding,
        "sequences_prefilling": lambda engine: engine.batch.num_reading,
    }
    for name, read in reads.items():
        metrics.watch(name, _by_model(engines, read))


def watch_service(metrics: Metrics, service: InferenceService) -> None:
    metrics.watch("streams_open", lambda: service.num_streams)
    metrics.watch("requests_open", lambda: service.requests.num_open)
    metrics.watch("requests_detached", lambda: service.requests.num_detached)
    metrics.watch("held_bytes", lambda: service.num_held_bytes)


def watch_health(metrics: Metrics, health: Health) -> None:
    metrics.watch("ready", lambda: health.is_ready)
    metrics.watch("draining", lambda: health.stage is Stage.DRAINING)


def watch_cache(metrics: Metrics, cache: Cache, flights: Sequence[Flights]) -> None:
    metrics.watch("cache_lookups", lambda: cache.counts)
    metrics.watch("requests_joined", lambda: sum(one.num_joined for one in flights))
    metrics.watch("requests_joined_elsewhere", lambda: sum(one.num_joined_elsewhere for one in flights))


def watch_store(metrics: Metrics, store: MemoryStore | RedisStore | None) -> None:
    if isinstance(store, RedisStore):
        _watch_redis(metrics, store.link)
    elif store is not None:
        _watch_memory(metrics, store)


def _watch_redis(metrics: Metrics, link: RedisLink) -> None:
    metrics.watch("redis_up", lambda: link.is_up)
    metrics.watch(
        "redis_troubles", lambda: {(str(reason),): count for reason, count in link.troubles.items()}
    )
    metrics.watch("cache_bytes", lambda: {("redis",): link.numbers.num_bytes})
    metrics.watch("cache_entries", lambda: {("redis",): link.numbers.num_entries})
    metrics.watch("cache_evictions", lambda: {("redis",): link.numbers.num_evicted})


def _watch_memory(metrics: Metrics, store: MemoryStore) -> None:
    metrics.watch("cache_bytes", lambda: {("memory",): store.num_bytes})
    metrics.watch("cache_entries", lambda: {("memory",): store.num_entries})
    metrics.watch("cache_evictions", lambda: {("memory",): store.num_evicted})


def watch_prefixes(metrics: Metrics, prefixes: Mapping[str, PrefixStore]) -> None:
    """By the name of their model."""
    reads: dict[Watch, Callable[[PrefixStore], float]] = {
        "prefix_bytes": lambda store: store.num_bytes,
        "prefix_entries": len,
        "prefix_hits": lambda store: store.num_hits,
    }
    for name, read in reads.items():
        metrics.watch(name, _by_model(prefixes, read))


def _by_model(parts: Mapping[str, T], read: Callable[[T], float]) -> Callable[[], Reading]:
    return lambda: {(model,): read(part) for model, part in parts.items()}
