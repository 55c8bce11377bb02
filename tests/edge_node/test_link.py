"""The link to servers that lie, stall, or are something else: one clear error, in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from cleave import AsyncEdgeNode
from cloud_node.asked.served import Bounds, Served
from cloud_node.bundle_files import BundleFiles
from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.engine.engine import Engine, EngineSettings
from cloud_node.service import InferenceService
from cloud_node.streams.host import Host, Hosted
from edge_node import link as link_module
from tests.kit.clouds import FakeRunner, limits, settle
from tests.kit.pictures import textured
from tests.kit.unobserved import Unobserved
from wire.errors import (
    Cancelled,
    CleaveError,
    Corrupt,
    IncompatibleBundle,
    Internal,
    MalformedMessage,
    Unavailable,
)
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

PICTURE = textured(60, 40)
TIMEOUT_S = 0.5


class Honest(InferenceService):
    """A cloud, for others to inherit its honesty from."""

    def __init__(self, served: Served, bundle: Path) -> None:
        self.engine = Engine(FakeRunner(), EngineSettings(tell_every_s=0), Unobserved())
        cache = Cache(None)
        hosted = Hosted(served, Flights(self.engine, cache))
        host = Host({served.name: hosted}, Bounds(limits(), 60, 60), "0", cache)
        super().__init__(host, [BundleFiles(bundle, served)], 8)


class SilentStream(Honest):
    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        await asyncio.Event().wait()
        yield pb.Down()


class EarlyEnd(Honest):
    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        await anext(request_iterator)
        if context is None:
            yield pb.Down()


class NoWelcome(Honest):
    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        yield pb.Down(pong=pb.Pong())


class OtherVersion(Honest):
    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        hello = (await anext(request_iterator)).hello

        async def changed() -> AsyncIterator[pb.Up]:
            yield pb.Up(hello=pb.Hello(protocol_version=hello.protocol_version + 1))

        async for down in super().Stream(changed(), context):
            yield down


class CancelledStream(Honest):
    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        await anext(request_iterator)
        yield pb.Down(welcome=pb.Welcome(limits=limits().to_wire()))
        await anext(request_iterator)
        await context.abort(grpc.StatusCode.CANCELLED, "by a proxy")


class SilentFetch(Honest):
    async def FetchBundle(self, request: Any, context: Any) -> AsyncIterator[pb.BundlePart]:
        await asyncio.Event().wait()
        yield pb.BundlePart()


class OtherBytes(Honest):
    async def FetchBundle(self, request: Any, context: Any) -> AsyncIterator[pb.BundlePart]:
        async for part in super().FetchBundle(request, context):
            if request.path != "manifest.json":
                part.data = bytes(len(part.data))
            yield part


class NoChains(Honest):
    async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
        reply = await super().Describe(request, context)
        reply.models[0].ClearField("chains")
        return reply


class NoModels(Honest):
    async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
        return pb.DescribeReply()


class SilentDescribe(Honest):
    async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
        await asyncio.Event().wait()
        return pb.DescribeReply()


class BrokenDescribe(Honest):
    async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
        await context.abort(grpc.StatusCode.CANCELLED, "by a proxy")
        return pb.DescribeReply()


@contextlib.asynccontextmanager
async def serving(add: Callable[[grpc.aio.Server], object]) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def asked(address: str, bundles: Path) -> str:
    async with AsyncEdgeNode(address, bundles=bundles, connect_timeout_s=TIMEOUT_S, reconnect_s=0) as edge:
        return await edge.ask("hi", PICTURE).text()


def test_the_honest_cloud_of_these_tests_answers(served: Served, tiny_bundle: Path, tmp_path: Path) -> None:
    async def run() -> None:
        service = Honest(served, tiny_bundle)
        async with serving(
            lambda server: pb_grpc.add_InferenceServicer_to_server(service, server)
        ) as address:
            assert await asked(address, tmp_path) == "hi "

    settle(run())


@pytest.mark.parametrize(
    ("service", "error", "says"),
    [
        (SilentStream, Unavailable, "welcome"),
        (EarlyEnd, MalformedMessage, "Welcome"),
        (NoWelcome, MalformedMessage, "Welcome"),
        (OtherVersion, IncompatibleBundle, "install the same version"),
        (CancelledStream, Cancelled, "by a proxy"),
        (SilentFetch, Unavailable, "sent no more of manifest.json"),
        (OtherBytes, Corrupt, "SHA-256"),
        (NoChains, MalformedMessage, "split points"),
        (NoModels, CleaveError, "no model"),
        (SilentDescribe, CleaveError, "in time"),
        (BrokenDescribe, Cancelled, "was cancelled"),
    ],
)
def test_cloud_that_lies_or_stalls_is_one_clear_error(
    served: Served,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    service: type[Honest],
    error: type[CleaveError],
    says: str,
) -> None:
    monkeypatch.setattr(link_module, "FETCH_IDLE_S", TIMEOUT_S)

    async def run() -> None:
        lying = service(served, tiny_bundle)
        async with serving(lambda server: pb_grpc.add_InferenceServicer_to_server(lying, server)) as address:
            with pytest.raises(error, match=says):
                await asked(address, tmp_path)

    settle(run())
    for path in (path for path in tmp_path.glob("*/**/*") if path.is_file()):
        bundled = tiny_bundle / path.relative_to(tmp_path / served.bundle_digest)
        assert path.read_bytes() == bundled.read_bytes()


def test_another_grpc_service_is_one_clear_error(tmp_path: Path) -> None:
    async def run() -> None:
        servicer = health.aio.HealthServicer()
        async with serving(lambda s: health_pb2_grpc.add_HealthServicer_to_server(servicer, s)) as address:
            with pytest.raises(MalformedMessage, match=r"does not speak wire\.v1"):
                await asked(address, tmp_path)

    settle(run())


@contextlib.contextmanager
def bound_socket(*, is_listening: bool) -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if is_listening:
            bound.listen()
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("is_listening", [True, False], ids=["silent", "refusing"])
def test_port_where_no_cloud_answers_is_unavailable_in_time(tmp_path: Path, is_listening: bool) -> None:
    with bound_socket(is_listening=is_listening) as address, pytest.raises(Unavailable, match=r"0\.5 s"):
        settle(asked(address, tmp_path))


def test_name_that_is_no_host_is_unavailable_in_time(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        settle(asked("no-such-host.invalid:50051", tmp_path))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_http_server_is_unavailable_in_time(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(100)
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            await writer.drain()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(Unavailable):
                await asked(f"127.0.0.1:{port}", tmp_path)

    settle(run())


def test_error_of_a_server_that_says_no_more_than_a_status_is_translated(
    served: Served, tiny_bundle: Path, tmp_path: Path
) -> None:
    class Failing(Honest):
        async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
            return pb.DescribeReply()

    async def run() -> None:
        service = Failing(served, tiny_bundle)
        async with serving(
            lambda server: pb_grpc.add_InferenceServicer_to_server(service, server)
        ) as address:
            with pytest.raises(Internal, match="broken"):
                await asked(address, tmp_path)

    settle(run())
