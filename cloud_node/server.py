"""The cloud process: loads, probes, listens, and on SIGTERM drains within a set time."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.access.doors import door_options, say_nothing_of_garbage
from cloud_node.access.entrance import Entrance
from cloud_node.bundle_files import BundleFiles
from cloud_node.config import CloudConfig
from cloud_node.engine.load import tell_load
from cloud_node.model.serving import serve
from cloud_node.parts import Parts
from cloud_node.ready import Ready
from cloud_node.service import InferenceService
from cloud_node.shutdown import Signals, exit_anyway_after
from cloud_node.telemetry.health import Stage
from cloud_node.telemetry.loop_lag import LoopLag
from cloud_node.telemetry.outside import Outside
from cloud_node.watching import watch_service
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


class CloudServer:
    """One listening cloud node. Made, started, drained and stopped on one event loop.

    `outside` may have been there before it, and is closed with it.
    """

    def __init__(self, config: CloudConfig, models: Sequence[Ready], outside: Outside | None = None) -> None:
        self._config = config
        self._entrance = Entrance(config.identity)
        self.outside = outside or Outside()
        self._parts = parts = Parts.of(config, models)
        self.metrics = parts.metrics
        host = parts.host(config, models, self.outside)
        bundles = [BundleFiles(model.bundle, model.served) for model in models]
        self._service = InferenceService(host, bundles, config.max_detached, config.max_streams)
        parts.watch(models, self.outside, self._entrance)
        watch_service(self.metrics, self._service)
        say_nothing_of_garbage()
        self._grpc_health = grpc_health.aio.HealthServicer()
        self._server = self._made()
        self.address = ""
        self.metrics_address = ""
        self._telling: asyncio.Task[None] | None = None
        self._lag: LoopLag | None = None

    def _made(self) -> Any:
        """gRPC's server, with every service that it offers."""
        options = [
            *door_options(self._config.limits, self._config.max_connections),
            *self._entrance.options,
        ]
        server = grpc.aio.server(interceptors=self._entrance.interceptors, options=options)
        add_checked_servicer(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._grpc_health, server)
        names = (SERVICE_NAME, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    async def start(self) -> str:
        """Listens; returns the address with its actual port. Raises BadInput where the address is taken."""
        host, _, _ = self._config.listen.rpartition(":")
        port = self._entrance.open(self._server, self._config.listen, self._parts.rollout.watched)
        self.outside.listen(self._config.metrics_listen)
        if self.outside.endpoint is not None:
            self.outside.endpoint.show(self.metrics)
            self.metrics_address = self.outside.endpoint.address
            _log.info("metrics at http://%s/metrics", self.metrics_address)
        self._lag = LoopLag(self.metrics.loop_lag)
        await self._parts.start()
        await self._server.start()
        self._telling = asyncio.create_task(
            tell_load(self._parts.loads, self._service.streams, self._config.load_every_s)
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
        await self._parts.close()
        await asyncio.to_thread(self.outside.close)

    async def _enter(self, stage: Stage) -> None:
        """Says so over gRPC, too: no name is whether the process is alive, the service's is whether it is ready."""
        health = self.outside.health
        health.enter(stage)
        for name, is_so in (("", health.is_alive), (SERVICE_NAME, health.is_ready)):
            await self._grpc_health.set(name, _SERVING if is_so else _NOT_SERVING)


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
