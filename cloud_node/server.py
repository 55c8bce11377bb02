"""The cloud process: loads, probes, listens, and on SIGTERM drains within a set time."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from importlib import metadata

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.batch import Runner
from cloud_node.bundle_files import BundleFiles
from cloud_node.cache import Cache
from cloud_node.config import CloudConfig
from cloud_node.engine import Engine
from cloud_node.flights import Flights
from cloud_node.metrics import Build, Metrics
from cloud_node.metrics_endpoint import MetricsEndpoint
from cloud_node.request import Served
from cloud_node.runner import ModelRunner
from cloud_node.service import InferenceService
from cloud_node.serving import serve
from cloud_node.store import MemoryStore
from cloud_node.stream import Host
from cloud_node.watching import watch_cache, watch_engine, watch_prefixes, watch_service, watch_store
from splitmodel.loading import Checkpoint
from wire.errors import BadInput
from wire.limits import grpc_options
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

# A thread that asks for the interpreter gets it within this. At Python's own 5 ms, a step of 1 ms would wait for
# several times its length wherever another request is being prepared.
_SWITCH_S = 0.0005

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Inference"].full_name


class CloudServer:
    """One listening cloud node. Made, started, drained and stopped on one event loop."""

    def __init__(
        self, config: CloudConfig, served: Served, runner: Runner, device: str = "", dtype: str = ""
    ) -> None:
        self._config = config
        version = metadata.version("cleave")
        self.metrics = Metrics(Build(version, served.name, device, dtype))
        self._engine = Engine(runner, config.engine, self.metrics)
        store = MemoryStore(config.cache_bytes, config.cache_ttl_s) if config.cache_bytes else None
        cache = Cache(store)
        self._flights = Flights(self._engine, cache)
        host = Host(self._engine, served, config.bounds, version, cache, self._flights, self.metrics)
        self._service = InferenceService(host, BundleFiles(config.bundle, served))
        watch_engine(self.metrics, self._engine)
        watch_service(self.metrics, self._service)
        watch_cache(self.metrics, cache, self._flights)
        if store is not None:
            watch_store(self.metrics, store)
        self._health = health.aio.HealthServicer()
        # Without the second option another process could listen on the same port, and take half of the calls.
        self._server = grpc.aio.server(options=[*grpc_options(), ("grpc.so_reuseport", 0)])
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
        """Ends every stream and the engine."""
        await self._server.stop(grace_s)
        await self._engine.close()
        await self._flights.close()
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None


def run(config: CloudConfig, checkpoint: Checkpoint, tell: Callable[[str], None]) -> None:
    """Runs a cloud node until SIGTERM or SIGINT; `tell` gets the address once it is ready."""
    served, runner = serve(checkpoint, config.bundle, config.name, config.room)
    sys.setswitchinterval(_SWITCH_S)
    asyncio.run(_run(config, served, runner, checkpoint, tell))


async def _run(
    config: CloudConfig,
    served: Served,
    runner: ModelRunner,
    checkpoint: Checkpoint,
    tell: Callable[[str], None],
) -> None:
    model = checkpoint.model
    server = CloudServer(config, served, runner, str(model.device), str(model.dtype).removeprefix("torch."))
    watch_prefixes(server.metrics, runner.prefixes)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    tell(await server.start())
    await ending.wait()
    _log.info("draining, at most %g s", config.drain_s)
    await server.drain()
