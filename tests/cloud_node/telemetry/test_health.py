"""Alive and ready are two things: while models load, while requests are taken, while it drains, and at its end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloud_node.asked.served import Served
from cloud_node.config import CloudConfig
from cloud_node.ready import Ready
from cloud_node.server import SERVICE_NAME, CloudServer
from cloud_node.telemetry import metrics_endpoint
from cloud_node.telemetry.health import Health, Stage
from cloud_node.telemetry.metrics_endpoint import MetricsEndpoint
from cloud_node.telemetry.outside import Outside
from tests.cloud_node.telemetry.test_metrics import samples
from tests.kit.clouds import FakeRunner, cloud, settle, until
from tests.kit.talking import channel, opening, talk

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def get(address: str, path: str) -> tuple[int, str]:
    """Status and text of an HTTP answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_stage_goes_only_forward() -> None:
    health = Health()
    seen = []
    for stage in (Stage.STARTING, Stage.READY, Stage.DRAINING, Stage.READY, Stage.STOPPING, Stage.DRAINING):
        health.enter(stage)
        seen.append((health.stage.value, health.is_alive, health.is_ready))
    assert seen == [
        ("starting", True, False),
        ("ready", True, True),
        ("draining", True, False),
        ("draining", True, False),
        ("stopping", False, False),
        ("stopping", False, False),
    ]


def test_endpoint_that_listens_before_the_models_are_loaded_says_alive_and_not_ready(
    served: Served, bundle: Path
) -> None:
    health = Health()
    endpoint = MetricsEndpoint("127.0.0.1:0", health)
    assert get(endpoint.address, "/healthz") == (200, "starting\n")
    assert get(endpoint.address, "/readyz") == (503, "starting\n")
    assert get(endpoint.address, "/metrics") == (503, "starting\n")
    assert get(endpoint.address, "/secrets")[0] == 404

    async def run() -> None:
        config = CloudConfig(listen="127.0.0.1:0")
        server = CloudServer(config, [Ready(served, FakeRunner(), bundle)], Outside(health, endpoint))
        await server.start()
        assert server.metrics_address == endpoint.address
        assert await asyncio.to_thread(get, endpoint.address, "/readyz") == (200, "ready\n")
        status, exposition = await asyncio.to_thread(get, endpoint.address, "/metrics")
        assert (status, samples(exposition)["cleave_ready"]) == (200, 1)
        await server.stop()
        assert not health.is_alive
        with pytest.raises(OSError):
            await asyncio.to_thread(get, endpoint.address, "/healthz")

    settle(run())


def _is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1 << 16) == b""
    except OSError:
        return True


def test_request_that_comes_byte_by_byte_is_cut_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_endpoint, "TIMEOUT_S", 0.3)
    endpoint = MetricsEndpoint("127.0.0.1:0", Health())
    host, _, port = endpoint.address.rpartition(":")
    with contextlib.closing(endpoint), socket.create_connection((host, int(port))) as slow:
        slow.settimeout(0.05)
        started_s = time.monotonic()
        cut = False
        while not cut and time.monotonic() < started_s + 5:
            try:
                slow.send(b"x")  # each within the socket's own timeout, and the request is never whole
                cut = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                cut = True
        assert cut


def test_connections_beyond_the_bound_are_not_heard_and_those_after_them_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_endpoint, "MAX_CONNECTIONS", 2)
    endpoint = MetricsEndpoint("127.0.0.1:0", Health())
    host, _, port = endpoint.address.rpartition(":")
    with contextlib.closing(endpoint), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(2)]
        with socket.create_connection((host, int(port)), 5) as third:
            assert _is_cut(third)
        for connection in silent:
            connection.close()
        deadline_s = time.monotonic() + 5
        status = 0
        while status != 503 and time.monotonic() < deadline_s:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _ = get(endpoint.address, "/readyz")
        assert status == 503


def test_draining_cloud_is_alive_and_not_ready_before_any_edge_is_sent_away(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        settings = {"metrics_listen": "127.0.0.1:0", "drain_s": 15}
        async with (
            cloud(served, bundle, runner, **settings) as server,
            channel(server.address) as made,
            talk(server.address) as t,
        ):
            stub = health_pb2_grpc.HealthStub(made)

            async def status(service: str) -> int:
                reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                return int(reply.status)

            async def probed(path: str) -> tuple[int, str]:
                return await asyncio.to_thread(get, server.metrics_address, path)

            assert [await status(""), await status(SERVICE_NAME)] == [_SERVING, _SERVING]
            ready_at_go_away = []
            go_away = server._service.go_away
            server._service.go_away = lambda *said: (  # type: ignore[method-assign]
                ready_at_go_away.append(server.outside.health.is_ready),
                go_away(*said),
            )[1]
            await t.welcomed()
            await t.say(open=opening(served, "hold on"))
            await t.hear("deltas")
            drained = asyncio.create_task(server.drain())
            await t.hear("go_away")
            assert ready_at_go_away == [False]
            assert [await status(""), await status(SERVICE_NAME)] == [_SERVING, _NOT_SERVING]
            assert await probed("/healthz") == (200, "draining\n")
            assert await probed("/readyz") == (503, "draining\n")
            found = samples((await probed("/metrics"))[1])
            assert (found["cleave_ready"], found["cleave_draining"]) == (0, 1)
            runner.release.set()
            await t.hear("done")
            await drained
            assert server.outside.health.stage is Stage.STOPPING

    settle(run())


def test_event_loop_that_is_held_up_is_measured(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:

            def seen() -> dict[str, float]:
                found = samples(server.metrics)
                names = ("cleave_loop_lag_seconds_count", 'cleave_loop_lag_seconds_bucket{le="0.2"}')
                return {name: found[name] for name in names}

            await until(lambda: seen()["cleave_loop_lag_seconds_count"] > 0)
            await asyncio.to_thread(_hold_up, asyncio.get_running_loop())
            await until(lambda: len(set(seen().values())) == 2)

    settle(run())


def _hold_up(loop: asyncio.AbstractEventLoop) -> None:
    """Keeps the loop's thread busy for longer than the timers of the lag are apart, and the bucket."""
    import threading

    loop.call_soon_threadsafe(threading.Event().wait, 0.6)
