"""The cloud process: loads, probes, listens, and on SIGTERM drains within a set time."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.batch import Runner
from cloud_node.bundle_files import BundleFiles
from cloud_node.cache import Cache
from cloud_node.config import CloudConfig
from cloud_node.engine import Engine
from cloud_node.flights import Flights
from cloud_node.host import Host, Hosted
from cloud_node.indexes import DiskIndexes
from cloud_node.metrics import Build, Metrics
from cloud_node.metrics_endpoint import MetricsEndpoint
from cloud_node.runner import ModelRunner
from cloud_node.served import Served
from cloud_node.service import InferenceService
from cloud_node.serving import serve
from cloud_node.store import MemoryStore
from cloud_node.watching import watch_cache, watch_engines, watch_prefixes, watch_service, watch_store
from splitmodel.loading import Checkpoint
from wire.errors import BadInput
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

# A thread that asks for the interpreter gets it within this. At Python's own 5 ms, a step of 1 ms would wait for
# several times its length wherever another request is being prepared.
_SWITCH_S = 0.0005

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
    """One listening cloud node. Made, started, drained and stopped on one event loop."""

    def __init__(self, config: CloudConfig, models: Sequence[Ready]) -> None:
        self._config = config
        version = metadata.version("cleave")
        self.metrics = Metrics(
            *(Build(version, model.served.name, model.device, model.dtype) for model in models)
        )
        store = MemoryStore(config.cache_bytes, config.cache_ttl_s) if config.cache_bytes else None
        cache = Cache(store)
        self._engines = {
            model.served.name: Engine(model.runner, config.engine, self.metrics) for model in models
        }
        self._flights = {name: Flights(engine, cache) for name, engine in self._engines.items()}
        hosted = {
            model.served.name: Hosted(model.served, self._flights[model.served.name]) for model in models
        }
        self._indexes = _indexes(config, models)
        host = Host(hosted, config.bounds, version, cache, self._indexes, self.metrics)
        bundles = [BundleFiles(model.bundle, model.served) for model in models]
        self._service = InferenceService(host, bundles, config.max_detached, config.doors.max_streams)
        watch_engines(self.metrics, self._engines)
        watch_service(self.metrics, self._service)
        watch_cache(self.metrics, cache, list(self._flights.values()))
        watch_prefixes(
            self.metrics,
            {m.served.name: m.runner.prefixes for m in models if isinstance(m.runner, ModelRunner)},
        )
        if store is not None:
            watch_store(self.metrics, store)
        self._health = health.aio.HealthServicer()
        # Without the second option another process could listen on the same port, and take half of the calls.
        self._server = grpc.aio.server(
            options=[*config.doors.grpc_options(config.limits), ("grpc.so_reuseport", 0)]
        )
        pb_grpc.add_InferenceServicer_to_server(self._service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.address = ""
        self._endpoint: MetricsEndpoint | None = None
        self.metrics_address = ""

    async def start(self) -> str:
        """Listens; returns the address with its actual port. Raises BadInput where the address is taken."""
        host, _, _ = self._config.listen.rpartition(":")
        try:
            port = self._server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            raise BadInput(f"cannot listen on {self._config.listen}; is the address taken?") from error
        if self._config.metrics_listen:
            self._endpoint = MetricsEndpoint(self.metrics, self._config.metrics_listen)
            self.metrics_address = self._endpoint.address
            _log.info("metrics at http://%s/metrics", self.metrics_address)
        await self._server.start()
        for name in ("", SERVICE_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.address = f"{host}:{port}"
        return self.address

    async def drain(self) -> None:
        """Takes nothing new, lets what was accepted end within `drain_s`, then stops."""
        await self._health.enter_graceful_shutdown()
        self._service.go_away("this cloud is closing", self._config.drain_s)
        await self._service.finish(self._config.drain_s)
        await self.stop(grace_s=1.0)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Ends every stream and the engines."""
        await self._server.stop(grace_s)
        self._service.requests.close()
        for engine in self._engines.values():
            await engine.close()
        for flights in self._flights.values():
            await flights.close()
        if self._indexes is not None:
            await asyncio.to_thread(self._indexes.close)
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None


def _indexes(config: CloudConfig, models: Sequence[Ready]) -> DiskIndexes | None:
    if config.index_dir is None:
        return None
    return DiskIndexes(config.index_dir, [model.served.bundle_digest for model in models])


def run(config: CloudConfig, sources: Sequence[Source], tell: Callable[[str], None]) -> None:
    """Runs a cloud node until SIGTERM or SIGINT; `tell` gets the address once it is ready."""
    models = [_ready(source, config) for source in sources]
    _require_different([model.served.name for model in models])
    sys.setswitchinterval(_SWITCH_S)
    asyncio.run(_run(config, models, tell))


def _ready(source: Source, config: CloudConfig) -> Ready:
    served, runner = serve(source.checkpoint, source.bundle, source.name, config.room)
    model = source.checkpoint.model
    return Ready(served, runner, source.bundle, str(model.device), str(model.dtype).removeprefix("torch."))


def _require_different(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two models would be served as {name!r}; give each a --name")


async def _run(config: CloudConfig, models: Sequence[Ready], tell: Callable[[str], None]) -> None:
    server = CloudServer(config, models)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    tell(await server.start())
    await ending.wait()
    _log.info("draining, at most %g s", config.drain_s)
    await server.drain()
