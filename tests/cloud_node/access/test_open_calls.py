"""Calls beside the stream at a real cloud: so many of a tenant, so many together, and none that nobody reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from cloud_node.access import guard
from cloud_node.access.identity import Identity
from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from tests.cloud_node.access.test_identity import bearing, says
from tests.kit.bundle_copies import rewritten
from tests.kit.clouds import FakeRunner, cloud, served_from, settle, until
from tests.kit.talking import channel, opening, talk
from tests.kit.tenants import TokenFile
from wire.errors import LimitReached, Overloaded, Unavailable
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc


async def watching(made: grpc.aio.Channel, metadata: Any = ()) -> Any:
    """A call that lasts until it is cancelled."""
    call = health_pb2_grpc.HealthStub(made).Watch(health_pb2.HealthCheckRequest(), metadata=metadata)
    await call.read()
    return call


def is_open(folder: Path) -> bool:
    """Whether this process has a file of that folder open."""
    descriptors = list(Path("/proc/self/fd").iterdir())
    return any(os.path.realpath(one).startswith(str(folder)) for one in descriptors)


def calls_of(server: CloudServer) -> Any:
    return server._entrance.calls


def test_a_tenant_has_so_many_calls_beside_its_streams_and_the_next_is_told(
    served: Served, bundle: Path, tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml", acme={}, other={})
    acme, other = bearing(tokens.tokens["acme"]), bearing(tokens.tokens["other"])
    wanted = pb.FetchBundleRequest(bundle_digest=served.bundle_digest, path="manifest.json")

    async def run() -> None:
        identity = Identity(tokens=tokens.path)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity) as server,
            channel(server.address) as made,
        ):
            calls_of(server)._max_of_tenant = 2
            stub = pb_grpc.InferenceStub(made)
            reflection = reflection_pb2_grpc.ServerReflectionStub(made).ServerReflectionInfo
            held = [await watching(made, acme), reflection(metadata=acme)]
            await until(lambda: len(calls_of(server)) == 2)
            for refused in (
                stub.FetchBundle(wanted, metadata=acme),
                stub.Describe(pb.DescribeRequest(), metadata=acme),
            ):
                error = await says(refused)
                assert isinstance(error, LimitReached)
                assert 1 <= (error.retry_after_s or 0) <= 2
            assert await says(stub.FetchBundle(wanted, metadata=other)) is None
            for call in held:
                call.cancel()
            await until(lambda: len(calls_of(server)) == 0)
            assert await says(stub.FetchBundle(wanted, metadata=acme)) is None
            assert len(calls_of(server)) == 0

    settle(run())


def test_all_together_have_so_many_calls_and_streams_go_on(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, channel(server.address) as made:
            calls_of(server)._max_calls = 1
            held = await watching(made)
            error = await says(pb_grpc.InferenceStub(made).Describe(pb.DescribeRequest()))
            assert isinstance(error, Overloaded)
            async with talk(server.address) as t:
                await t.welcomed()
                await t.say(open=opening(served, "still here", request_id="r1"))
                assert await t.text("r1") == "still here "
            check = await health_pb2_grpc.HealthStub(made).Check(health_pb2.HealthCheckRequest())
            assert check.status == health_pb2.HealthCheckResponse.SERVING
            held.cancel()

    settle(run())


def test_a_file_that_nobody_reads_is_held_open_no_longer_than_its_limit(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "IDLE_S", 0.2)
    large = rewritten(bundle, tmp_path / "large", version=3 << 20)
    # Less of it than of the file is on its way before anybody reads.
    narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
    served = served_from(large)
    wanted = pb.FetchBundleRequest(bundle_digest=served.bundle_digest, path="manifest.json")

    async def run() -> None:
        async with (
            cloud(served, large, FakeRunner()) as server,
            grpc.aio.insecure_channel(server.address, narrow) as made,
        ):
            assert not is_open(large)
            unread = pb_grpc.InferenceStub(made).FetchBundle(wanted)
            await until(lambda: len(calls_of(server)) == 1)
            await until(lambda: is_open(large))
            await until(lambda: not is_open(large))
            assert len(calls_of(server)) == 1, "it is counted as long as anything of it waits to be read"
            error = await says(unread)
            assert isinstance(error, Unavailable)
            assert "read nothing" in str(error)
            await until(lambda: len(calls_of(server)) == 0)
            whole = [part.data async for part in pb_grpc.InferenceStub(made).FetchBundle(wanted)]
            assert sum(map(len, whole)) == (large / "manifest.json").stat().st_size

    settle(run())
