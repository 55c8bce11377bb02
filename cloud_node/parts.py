"""What a cloud node is made of, besides its port: the models' engines, what is kept, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from cloud_node.access.quotas import Quotas
from cloud_node.asked.held_bytes import HeldBytes
from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.caching.leases import Leases
from cloud_node.caching.redis_store import RedisStore
from cloud_node.caching.store import MemoryStore
from cloud_node.config import CloudConfig
from cloud_node.engine.engine import Engine
from cloud_node.engine.load import Loads, loads_of
from cloud_node.model.runner import ModelRunner
from cloud_node.ready import Ready
from cloud_node.retrieval.indexes import DiskIndexes
from cloud_node.streams.host import Host, Hosted
from cloud_node.streams.rollout import Rollout
from cloud_node.streams.versions import by_name, check_versions, labels_of
from cloud_node.telemetry.metrics import Build, Metrics
from cloud_node.telemetry.outside import Outside
from cloud_node.telemetry.tenant_metrics import Door, watch_tenants
from cloud_node.watching import watch_cache, watch_engines, watch_health, watch_prefixes, watch_store


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Engines and flights are by the label of their bundle."""

    metrics: Metrics
    store: MemoryStore | RedisStore | None
    cache: Cache
    engines: dict[str, Engine]
    flights: dict[str, Flights]
    indexes: DiskIndexes | None
    quotas: Quotas
    rollout: Rollout
    version: str

    @classmethod
    def of(cls, config: CloudConfig, models: Sequence[Ready]) -> Parts:
        """Raises BadInput where the models do not go together, or a file or a folder cannot be used."""
        check_versions([model.served for model in models], is_rollout=config.rollout.is_on)
        labelled = _labelled(models)
        version = metadata.version("cleave")
        metrics = Metrics(*(Build(version, label, m.device, m.dtype) for label, m in labelled.items()))
        engines = {label: Engine(m.runner, config.engine, metrics) for label, m in labelled.items()}
        store = _store(config)
        cache = Cache(store, Leases(store) if isinstance(store, RedisStore) else None)
        return cls(
            metrics=metrics,
            store=store,
            cache=cache,
            engines=engines,
            flights={label: Flights(engine, cache) for label, engine in engines.items()},
            indexes=_indexes(config, models),
            quotas=Quotas(),
            rollout=Rollout(config.rollout),
            version=version,
        )

    def host(self, config: CloudConfig, models: Sequence[Ready], outside: Outside) -> Host:
        """What the streams share of them."""
        flights = zip(models, self.flights.values(), strict=True)
        return Host(
            models=by_name([Hosted(model.served, flown) for model, flown in flights]),
            bounds=config.bounds,
            server_version=self.version,
            cache=self.cache,
            indexes=self.indexes,
            metrics=self.metrics,
            spans=outside.spans,
            held=HeldBytes(config.max_held_bytes),
            quotas=self.quotas,
            share_of=self.rollout.share_of,
        )

    def watch(self, models: Sequence[Ready], outside: Outside, door: Door) -> None:
        """From now on the metrics tell of them."""
        runners = {label: model.runner for label, model in _labelled(models).items()}
        prefixes = {label: one.prefixes for label, one in runners.items() if isinstance(one, ModelRunner)}
        watch_engines(self.metrics, self.engines)
        watch_tenants(self.metrics, self.quotas, door)
        watch_health(self.metrics, outside.health)
        watch_cache(self.metrics, self.cache, list(self.flights.values()))
        watch_prefixes(self.metrics, prefixes)
        watch_store(self.metrics, self.store)

    def loads(self) -> Loads:
        """How busy each tenant keeps the engines."""
        sequences = (one for flights in self.flights.values() for one in flights.sequences())
        return loads_of(sequences, sum(engine.settings.num_slots for engine in self.engines.values()))

    async def start(self) -> None:
        if isinstance(self.store, RedisStore):
            await self.store.start()

    async def close(self) -> None:
        """Ends what still runs."""
        for engine in self.engines.values():
            await engine.close()
        for flights in self.flights.values():
            await flights.close()
        await self.cache.close()
        if self.indexes is not None:
            await asyncio.to_thread(self.indexes.close)


def _labelled(models: Sequence[Ready]) -> dict[str, Ready]:
    return dict(zip(labels_of([model.served for model in models]), models, strict=True))


def _store(config: CloudConfig) -> MemoryStore | RedisStore | None:
    if config.redis is not None:
        return RedisStore(config.redis, config.cache_ttl_s)
    return MemoryStore(config.cache_bytes, config.cache_ttl_s) if config.cache_bytes else None


def _indexes(config: CloudConfig, models: Sequence[Ready]) -> DiskIndexes | None:
    if config.index_dir is None:
        return None
    return DiskIndexes(config.index_dir, [model.served.bundle_digest for model in models])
