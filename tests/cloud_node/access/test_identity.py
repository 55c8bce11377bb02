"""Who may call a real cloud: every method asks, limits are told, and what is unsafe does not start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cloud_node.access.identity import Identity
from cloud_node.asked.served import Served
from cloud_node.config import CloudConfig
from tests.kit.clouds import FakeRunner, cloud, settle, until
from tests.kit.talking import Talk, channel, opening
from tests.kit.tenants import TokenFile
from wire.errors import BadInput, CleaveError, Denied, ErrorCode, LimitReached, from_failed, from_rpc_error
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

Metadata = Sequence[tuple[str, str]]


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.toml", acme={}, operator={"metrics": True})


def bearing(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def says(call: Any) -> CleaveError | None:
    """What a call ends with, from its trailer; None where it goes well."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.RpcError as error:
        return from_rpc_error(error, "there")
    return None


async def of_every_method(
    made: grpc.aio.Channel, served: Served, metadata: Metadata
) -> dict[str, CleaveError | None]:
    stub = pb_grpc.InferenceStub(made)
    wanted = pb.FetchBundleRequest(bundle_digest=served.bundle_digest, path="manifest.json")
    hello = pb.Up(hello=pb.Hello(protocol_version=1))
    watch = health_pb2_grpc.HealthStub(made).Watch(health_pb2.HealthCheckRequest(), metadata=metadata)
    listed = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = reflection_pb2_grpc.ServerReflectionStub(made).ServerReflectionInfo
    found = {
        "Stream": await says(stub.Stream(iter([hello]), metadata=metadata)),
        "Describe": await says(stub.Describe(pb.DescribeRequest(), metadata=metadata)),
        "FetchBundle": await says(stub.FetchBundle(wanted, metadata=metadata)),
        "Metrics": await says(stub.Metrics(pb.MetricsRequest(), metadata=metadata)),
        "Reflection": await says(reflection(iter([listed]), metadata=metadata)),
    }
    try:
        await watch.read()
        found["Watch"] = None
    except grpc.RpcError as error:
        found["Watch"] = from_rpc_error(error, "there")
    watch.cancel()
    return found


def test_every_method_asks_but_the_health_check(served: Served, bundle: Path, tokens: TokenFile) -> None:
    async def run() -> None:
        identity = Identity(tokens=tokens.path)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity) as server,
            channel(server.address) as made,
        ):
            for metadata in ((), bearing("cleave_" + "a" * 43)):
                denied = await of_every_method(made, served, metadata)
                assert {type(error) for error in denied.values()} == {Denied}, denied
            welcome = await of_every_method(made, served, bearing(tokens.tokens["operator"]))
            assert set(welcome.values()) == {None}, welcome
            health = await health_pb2_grpc.HealthStub(made).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            assert 'cleave_calls_denied_total{showed="nothing"} 6.0' in server.metrics.exposition()
            assert 'cleave_calls_denied_total{showed="credentials"} 6.0' in server.metrics.exposition()

    settle(run())


def test_metrics_are_for_operators(served: Served, bundle: Path, tokens: TokenFile) -> None:
    async def run() -> None:
        identity = Identity(tokens=tokens.path)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity) as server,
            channel(server.address) as made,
        ):
            found = await of_every_method(made, served, bearing(tokens.tokens["acme"]))
            assert isinstance(found.pop("Metrics"), Denied)
            assert set(found.values()) == {None}, found

    settle(run())


@contextlib.asynccontextmanager
async def stream_of(made: grpc.aio.Channel, token: str) -> AsyncIterator[Talk]:
    call = pb_grpc.InferenceStub(made).Stream(metadata=bearing(token))
    try:
        yield Talk(call)
    finally:
        call.cancel()


def test_a_revoked_token_ends_at_the_streams_next_request(
    served: Served, bundle: Path, tokens: TokenFile
) -> None:
    async def run() -> None:
        identity = Identity(tokens=tokens.path)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity) as server,
            channel(server.address) as made,
            stream_of(made, tokens.tokens["acme"]) as edge,
        ):
            await edge.welcomed()
            await edge.say(open=opening(served, "still here", request_id="r1"))
            assert await edge.text("r1") == "still here "
            tokens.write(operator={})
            watched = server._entrance.tokens
            assert watched is not None
            await until(lambda: "acme" not in watched.value.tenants)
            await edge.say(open=opening(served, "gone", request_id="r2"))
            failed = await edge.hear("failed", "r2")
            assert failed.code == ErrorCode.DENIED

    settle(run())


def test_limits_of_a_tenant_are_told_with_when_to_come_back(
    served: Served, bundle: Path, tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "t", acme={"streams": 1, "requests_per_s": 0.01}, other={})

    async def run() -> None:
        identity = Identity(tokens=tokens.path)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity) as server,
            channel(server.address) as made,
        ):
            async with stream_of(made, tokens.tokens["acme"]) as edge:
                await edge.welcomed()
                assert isinstance(await says(pb_grpc.InferenceStub(made).Stream(
                    iter([pb.Up(hello=pb.Hello(protocol_version=1))]), metadata=bearing(tokens.tokens["acme"])
                )), LimitReached)  # fmt: skip
                await edge.say(open=opening(served, "one", request_id="r1"))
                await edge.text("r1")
                await edge.say(open=opening(served, "two", request_id="r2"))
                error = from_failed(await edge.hear("failed", "r2"))
                assert isinstance(error, LimitReached)
                assert "0.01 requests/s" in str(error)
                assert error.retry_after_s is not None
                assert 95 < error.retry_after_s <= 100
            async with stream_of(made, tokens.tokens["other"]) as edge:
                await edge.welcomed()
                await edge.say(open=opening(served, "three", request_id="r1"))
                assert await edge.text("r1") == "three "
            told = server.metrics.exposition()
            assert 'cleave_tenant_requests_total{tenant="other"} 1.0' in told
            assert 'cleave_tenant_answer_tokens_total{tenant="other"} 1.0' in told
            assert 'cleave_tenant_refused_total{limit="requests_per_s",tenant="acme"} 1.0' in told
            await until(lambda: 'cleave_tenant_streams{tenant="acme"} 0.0' in server.metrics.exposition())

    settle(run())


def test_an_upload_over_its_rate_is_read_later_and_not_failed(
    served: Served, bundle: Path, tmp_path: Path
) -> None:
    size = sum(spec.num_bytes for spec in served.manifest.chains[0].boundary(1, 0))
    tokens = TokenFile(tmp_path / "t", acme={"bytes_per_s": 2 * size})

    async def run() -> None:
        loop = asyncio.get_running_loop()
        identity = Identity(tokens=tokens.path)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity) as server,
            channel(server.address) as made,
            stream_of(made, tokens.tokens["acme"]) as edge,
        ):
            await edge.welcomed()
            started_s = loop.time()
            for index in range(4):
                await edge.say(open=opening(served, "sent", request_id=f"r{index}"))
            for _ in range(4):
                await edge.hear("done")
            # Two go through at once, the third is read, too; the last waits until what it took is there again.
            assert loop.time() - started_s >= 0.4

    settle(run())


@pytest.mark.parametrize(
    ("listen", "identity", "sentence"),
    [
        ("0.0.0.0:0", Identity(), "nothing says who may call; give --tokens"),
        ("[::]:0", Identity(), "nothing says who may call"),
        ("cloud.example:0", Identity(), "nothing says who may call"),
        ("0.0.0.0:0", Identity(tls_cert=Path("c"), tls_key=Path("k")), "nothing says who may call"),
        ("0.0.0.0:0", Identity(tokens=Path("t")), "unencrypted"),
        ("127.0.0.1:0", Identity(), None),
        ("localhost:0", Identity(), None),
        ("[::1]:0", Identity(), None),
        ("127.0.0.1:0", Identity(tokens=Path("t")), None),
        ("0.0.0.0:0", Identity(trust_network=True), None),
        ("0.0.0.0:0", Identity(tokens=Path("t"), trust_network=True), None),
        ("0.0.0.0:0", Identity(tokens=Path("t"), tls_cert=Path("c"), tls_key=Path("k")), None),
        ("0.0.0.0:0", Identity(client_ca=Path("a"), tls_cert=Path("c"), tls_key=Path("k")), None),
    ],
)
def test_an_address_that_strangers_reach_needs_credentials_and_tls(
    listen: str, identity: Identity, sentence: str | None
) -> None:
    if sentence is None:
        CloudConfig(listen=listen, identity=identity)
        return
    with pytest.raises(BadInput, match=sentence):
        CloudConfig(listen=listen, identity=identity)


def test_settings_that_go_together_are_given_together() -> None:
    with pytest.raises(BadInput, match="go together"):
        Identity(tls_cert=Path("c"))
    with pytest.raises(BadInput, match="over TLS only"):
        Identity(client_ca=Path("a"))


def test_a_cloud_without_credentials_says_that_it_is_on_loopback_and_why(
    served: Served, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()):
            pass

    with caplog.at_level(logging.INFO, "cloud_node"):
        settle(run())
    assert "nobody is asked who they are, so this listens on loopback only" in caplog.text
