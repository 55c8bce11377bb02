"""Envoy, with the configuration of deploy/, before two real cloud nodes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from cleave.health import READY_SERVICE
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeRunner, cloud, served_from, settle, until
from tests.kit.envoys import envoy
from tests.kit.talking import Talk, opening
from wire.v1 import inference_pb2_grpc as pb_grpc

pytestmark = pytest.mark.slow

EDGES = [f"edge-{number}" for number in range(8)]


@contextlib.asynccontextmanager
async def two_clouds(bundle: Path, folder: Path) -> AsyncIterator[tuple[str, list[CloudServer]]]:
    """Envoy's address, and the nodes behind it."""
    served = served_from(bundle)
    async with (
        cloud(served, bundle, FakeRunner()) as one,
        cloud(served, bundle, FakeRunner()) as other,
        envoy([one.address, other.address], folder) as address,
    ):
        yield address, [one, other]


@contextlib.asynccontextmanager
async def stream(address: str, edge_id: str) -> AsyncIterator[Talk]:
    """A stream of an edge that has been welcomed, on a connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        talk = Talk(pb_grpc.InferenceStub(channel).Stream(metadata=(("cleave-edge-id", edge_id),)))
        await talk.welcomed(edge_id)
        yield talk


async def node_of(address: str, edge_id: str, nodes: list[CloudServer]) -> int:
    """Which node a new stream of this edge comes to."""
    before = [node._service.num_streams for node in nodes]
    async with stream(address, edge_id):
        after = [node._service.num_streams for node in nodes]
    await until(lambda: [node._service.num_streams for node in nodes] == before)
    return next(index for index, count in enumerate(after) if count > before[index])


def test_edge_stays_on_its_node_and_edges_are_spread(tiny_bundle: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with two_clouds(tiny_bundle, tmp_path) as (address, nodes):
            first = [await node_of(address, edge_id, nodes) for edge_id in EDGES]
            again = [await node_of(address, edge_id, nodes) for edge_id in EDGES]
            assert first == again
            assert set(first) == {0, 1}

    settle(run())


def test_node_that_is_not_ready_gets_no_new_stream_and_keeps_those_it_has(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        async with two_clouds(tiny_bundle, tmp_path) as (address, nodes):
            edge_id = EDGES[0]
            own = await node_of(address, edge_id, nodes)
            async with stream(address, edge_id) as talk:
                not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
                await nodes[own]._grpc_health.set(READY_SERVICE, not_serving)
                while await node_of(address, edge_id, nodes) == own:
                    pass
                await talk.say(open=opening(served_from(tiny_bundle), "two words", request_id="r"))
                assert await talk.text("r") == "two words "

    settle(run())
