"""The cloud process: loads, probes, listens, and on SIGTERM drains within a set time."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.batch import Runner
from cloud_node.bundle_files import BundleFiles
from cloud_node.cache import Cache
from cloud_node.config import CloudConfig
from cloud_node.doors import door_options, say_nothing_of_garbage
from cloud_node.ending import Signals, exit_anyway_after
from cloud_node.engine import Engine
from cloud_node.entrance import Entrance
from cloud_node.flights import Flights
from cloud_node.health import Stage
from cloud_node.held_bytes import HeldBytes
from cloud_node.host import Host, Hosted
from cloud_node.indexes import DiskIndexes
from cloud_node.leases import Leases
from cloud_node.load import load_of, tell_load
from cloud_node.loop_lag import LoopLag
from cloud_node.metrics import Build, Metrics
from cloud_node.outside import Outside
from cloud_node.quotas import Quotas
from cloud_node.redis_store import RedisStore
from cloud_node.rollout import Rollout
from cloud_node.runner import ModelRunner
from cloud_node.served import Served
from cloud_node.service import InferenceService
from cloud_node.serving import serve
from cloud_node.store import MemoryStore
from cloud_node.tenant_metrics import watch_tenants
from cloud_node.versions import by_name, check_versions, labels_of
from cloud_node.watching import (
    watch_cache,
    watch_engines,
    watch_health,
    watch_prefixes,
    watch_service,
    watch_store,
)
from splitmodel.loading import Checkpoint
from wire.checked import add_checked_servicer
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)

# A thread that asks for the interpreter gets it within this. At Python's own 5 ms, a step of 1 ms would wait for
# several times its length wherever another request is being prepared.
SWITCH_S = 0.0005

# After the last message, for edges to hear it; and until a process whose model does not come back is ended.
_LAST_WORDS_S = 1.0
_END_S = 15.0

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Inference"].full_name


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is served from; its name is the bundle's where none is given."""

    checkpoint: Checkpoint
    bundle: Path
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A model that can be asked."""

    served: Served
    runner: Runner
    bundle: Path
    device: str = ""
    dtype: str = ""


class CloudServer:
    """One listening cloud node. Made, started, drained and stopped on one event loop.

    `outside` may have been there before it, and is closed with it.
    """

    def __init__(self, config: CloudConfig, models: Sequence[Ready], outside: Outside | None = None) -> None:
        self._config = config
        self._entrance = Entrance(config.identity)
        self.outside = outside or Outside()
        version = metadata.version("cleave")
        check_versions([model.served for model in models], is_rollout=config.rollout.is_on)
        named = dict(zip(labels_of([model.served for model in models]), models, strict=True))
        self.metrics = Metrics(*(Build(version, label, m.device, m.dtype) for label, m in named.items()))
        self._store = _store(config)
        self._cache = cache = _cache(self._store)
        self._engines = {
            label: Engine(model.runner, config.engine, self.metrics) for label, model in named.items()
        }
        self._flights = {label: Flights(engine, cache) for label, engine in self._engines.items()}
        hosted = by_name([Hosted(model.served, self._flights[label]) for label, model in named.items()])
        self._indexes = _indexes(config, models)
        quotas, held = Quotas(), HeldBytes(config.max_held_bytes)
        host = Host(
            models=hosted,
            bounds=config.bounds,
            server_version=version,
            cache=cache,
            indexes=self._indexes,
            metrics=self.metrics,
            spans=self.outside.spans,
            held=held,
            quotas=quotas,
            share_of=Rollout(config.rollout).share_of,
        )
        bundles = [BundleFiles(model.bundle, model.served) for model in models]
        self._service = InferenceService(host, bundles, config.max_detached, config.max_streams)
        watch_engines(self.metrics, self._engines)
        watch_service(self.metrics, self._service)
        watch_tenants(self.metrics, quotas, self._entrance)
        watch_health(self.metrics, self.outside.health)
        watch_cache(self.metrics, cache, list(self._flights.values()))
        watch_prefixes(
            self.metrics,
            {label: m.runner.prefixes for label, m in named.items() if isinstance(m.runner, ModelRunner)},
        )
        watch_store(self.metrics, self._store)
        say_nothing_of_garbage()
        self._grpc_health = grpc_health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=self._entrance.interceptors,
            options=[*door_options(config.limits, config.max_connections), *self._entrance.options],
        )
        add_checked_servicer(self._service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._grpc_health, self._server)
        names = (SERVICE_NAME, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.address = ""
        self.metrics_address = ""
        self._telling: asyncio.Task[None] | None = None
        self._lag: LoopLag | None = None

    async def start(self) -> str:
        """Listens; returns the address with its actual port. Raises BadInput where the address is taken."""
        host, _, _ = self._config.listen.rpartition(":")
        port = self._entrance.open(self._server, self._config.listen)
        self.outside.listen(self._config.metrics_listen)
        if self.outside.endpoint is not None:
            self.outside.endpoint.show(self.metrics)
            self.metrics_address = self.outside.endpoint.address
            _log.info("metrics at http://%s/metrics", self.metrics_address)
        self._lag = LoopLag(self.metrics.loop_lag)
        if isinstance(self._store, RedisStore):
            await self._store.start()
        await self._server.start()
        self._telling = asyncio.create_task(
            tell_load(
                lambda: load_of(self._engines.values()), self._service.streams, self._config.load_every_s
            )
        )
        await self._enter(Stage.READY)
        self.address = f"{host}:{port}"
        return self.address

    async def drain(self, hurry: asyncio.Event | None = None) -> None:
        """Takes nothing new, lets what was accepted end within `drain_s`, or until it is to hurry; then stops."""
        # First of all: whoever asks where to send requests is told before anybody is refused.
        await self._enter(Stage.DRAINING)
        self._service.go_away("this cloud is closing", self._config.drain_s)
        ends = [asyncio.ensure_future(self._service.wait_idle(self._config.drain_s))]
        if hurry is not None:
            ends.append(asyncio.ensure_future(hurry.wait()))  # type: ignore[arg-type]
        _, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in pending:
            end.cancel()
        self._service.finish()
        await self.stop(_LAST_WORDS_S)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Ends every stream and the engines."""
        await self._enter(Stage.STOPPING)
        if self._lag is not None:
            self._lag.close()
        await self._server.stop(grace_s)
        await self._entrance.close()
        self._service.requests.close()
        if self._telling is not None:
            self._telling.cancel()
        for engine in self._engines.values():
            await engine.close()
        for flights in self._flights.values():
            await flights.close()
        await self._cache.close()
        if self._indexes is not None:
            await asyncio.to_thread(self._indexes.close)
        await asyncio.to_thread(self.outside.close)

    async def _enter(self, stage: Stage) -> None:
        """Says so over gRPC, too: no name is whether the process is alive, the service's is whether it is ready."""
        health = self.outside.health
        health.enter(stage)
        for name, is_so in (("", health.is_alive), (SERVICE_NAME, health.is_ready)):
            await self._grpc_health.set(name, _SERVING if is_so else _NOT_SERVING)


def _store(config: CloudConfig) -> MemoryStore | RedisStore | None:
    if config.redis is not None:
        return RedisStore(config.redis, config.cache_ttl_s)
    return MemoryStore(config.cache_bytes, config.cache_ttl_s) if config.cache_bytes else None


def _cache(store: MemoryStore | RedisStore | None) -> Cache:
    return Cache(store, Leases(store) if isinstance(store, RedisStore) else None)


def _indexes(config: CloudConfig, models: Sequence[Ready]) -> DiskIndexes | None:
    if config.index_dir is None:
        return None
    return DiskIndexes(config.index_dir, [model.served.bundle_digest for model in models])


def run(
    config: CloudConfig,
    sources: Sequence[Source],
    tell: Callable[[str], None],
    outside: Outside | None = None,
) -> None:
    """Runs a cloud node until SIGTERM or SIGINT; `tell` gets the address once it is ready."""
    models = [_ready(source, config) for source in sources]
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(_run(lambda: CloudServer(config, models, outside), config.drain_s, tell))


def _ready(source: Source, config: CloudConfig) -> Ready:
    served, runner = serve(source.checkpoint, source.bundle, source.name, config.room)
    model = source.checkpoint.model
    return Ready(served, runner, source.bundle, str(model.device), str(model.dtype).removeprefix("torch."))


def note_failed_task(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task that nobody awaited. Its own description, which asyncio would log, holds the exception's text."""
    _log.error("%s", context.get("message", "a task failed"), exc_info=context.get("exception"))


async def _run(make: Callable[[], CloudServer], drain_s: float, tell: Callable[[str], None]) -> None:
    asyncio.get_running_loop().set_exception_handler(note_failed_task)
    signals = Signals()
    server = make()
    tell(await server.start())
    await signals.drain.wait()
    _log.info("draining, at most %g s", drain_s)
    exit_anyway_after(drain_s + _END_S)
    await server.drain(signals.hurry)
