"""What streams and their requests are counted as: how a stream ended, who was sent away, refused, or came back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from tests.cloud_node.telemetry.test_metrics import samples
from tests.kit.clouds import FakeRunner, cloud, limits, num_left, settle, until
from tests.kit.talking import opening, talk
from wire.v1 import inference_pb2 as pb


def counted(server: CloudServer, name: str) -> dict[str, float]:
    """By the one label's value."""
    found = {key: value for key, value in samples(server.metrics).items() if key.startswith(name + "{")}
    return {key.split('"')[1]: value for key, value in found.items()}


def test_streams_are_counted_by_how_they_ended(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            async with talk(server.address) as closed:
                await closed.welcomed()
                await closed.call.done_writing()
                await closed.status()
            async with talk(server.address) as wrong:
                await wrong.say(ping=pb.Ping())
                await wrong.status()
            async with talk(server.address) as gone:
                await gone.welcomed()
            await until(lambda: not server._service.num_streams)
            assert counted(server, "cleave_streams_ended_total") == {"ok": 2, "malformed_message": 1}

    settle(run())


def test_what_is_turned_away_is_counted_by_its_reason(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        few = limits(max_open_requests=1)
        async with cloud(served, bundle, runner, limits=few, drain_s=15) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold on", request_id="first"))
            await t.hear("deltas")
            await t.say(open=opening(served, "one too many", request_id="second"))
            await t.hear("failed", "second")
            drained = asyncio.create_task(server.drain())
            await t.hear("go_away")
            await t.say(open=opening(served, "too late", request_id="third"))
            await t.hear("failed", "third")
            found = samples(server.metrics)
            assert counted(server, "cleave_requests_refused_total") == {"overloaded": 1, "unavailable": 1}
            assert found["cleave_go_aways_total"] == 1
            runner.release.set()
            await t.hear("done", "first")
            await drained
            assert 'outcome="done"' in server.metrics.exposition()

    settle(run())


def test_edge_that_comes_back_is_counted_by_whether_its_request_is_here(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            async with talk(server.address) as first:
                await first.welcomed("edge-1")
                await first.say(open=opening(served, "hold on", request_id="known"))
                await first.hear("deltas")
            await until(lambda: not server._service.num_streams)
            runner.release.set()
            async with talk(server.address) as second:
                await second.welcomed("edge-1")
                for request_id in ("known", "unknown"):
                    again = opening(served, "hold on", request_id=request_id)
                    again.resume.received_tokens = 1
                    await second.say(open=again)
                    await second.hear("done", request_id)
            assert counted(server, "cleave_requests_resumed_total") == {"found": 1, "forgotten": 1}
            await until(lambda: not num_left(server))

    settle(run())
