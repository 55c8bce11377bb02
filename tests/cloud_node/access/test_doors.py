"""What a stranger can make a cloud hold before any of our own code hears of it, on real sockets: bounded, by name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cloud_node.access import entrance
from cloud_node.access.doors import files_for, max_up_bytes
from cloud_node.asked.served import Served
from cloud_node.config import CloudConfig
from cloud_node.server import CloudServer
from cloud_node.streams import hello
from tests.kit.clouds import FakeRunner, cloud, limits, settle, until
from tests.kit.garbage import FULL, GARBAGE, PREFACE, SETTINGS
from tests.kit.memory import peak_bytes_of
from tests.kit.talking import Talk, channel, opening, talk
from wire.errors import BadInput
from wire.limits import MAX_MESSAGE_BYTES
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

STREAM = b"/wire.v1.Inference/Stream"


async def answers(server: CloudServer, served: Served) -> None:
    """It still does, to somebody new."""
    async with talk(server.address) as t:
        await t.welcomed()
        await t.say(open=opening(served, "hello"))
        assert await t.text("r1") == "hello "


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_at_the_port_ends_its_own_connection_alone(
    served: Served, bundle: Path, garbage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.3)

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            await asyncio.to_thread(sent, server.address, GARBAGE[garbage])
            await answers(server, served)

    settle(run())


def sent(address: str, data: bytes, until_s: float = 0.6) -> float:
    """What a peer sends that reads all that it is told; seconds until it is put out, or stops waiting."""
    host, _, port = address.rpartition(":")
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=until_s) as peer, contextlib.suppress(OSError):
        peer.sendall(data)
        while time.monotonic() - started < until_s and peer.recv(1 << 16):
            pass
    return time.monotonic() - started


@pytest.mark.parametrize("data", [b"", PREFACE, PREFACE[:10]], ids=["silent", "without settings", "cut"])
def test_peer_that_does_not_finish_its_handshake_is_put_out(
    served: Served, bundle: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.3)

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            assert await asyncio.to_thread(sent, server.address, data, 10.0) < 5

    settle(run())


def test_connection_that_is_used_for_nothing_is_closed(
    served: Served, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "CONNECTION_IDLE_S", 0.2)

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            assert await asyncio.to_thread(sent, server.address, PREFACE + SETTINGS, 10.0) < 5

    settle(run())


def test_further_connections_are_closed_and_those_there_are_go_on(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner(), max_connections=8) as server:
            host, _, port = server.address.rpartition(":")
            async with talk(server.address) as first:
                await first.welcomed()
                silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
                # gRPC's first frame comes to those that are let in, and an end to the others.
                heard = await asyncio.gather(
                    *(reader.read(9) for reader, _ in silent), return_exceptions=True
                )
                assert sum(isinstance(data, bytes) and len(data) > 0 for data in heard) == 7
                await first.say(open=opening(served, "hello"))
                assert await first.text("r1") == "hello "
            for _, writer in silent:
                writer.close()
            await until_answering(server, served)

    settle(run())


async def until_answering(server: CloudServer, served: Served) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(grpc.RpcError, AssertionError):
                return await answers(server, served)


def test_further_streams_are_refused_at_once_and_other_calls_are_not(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with (
            cloud(served, bundle, FakeRunner(), max_streams=2) as server,
            channel(server.address) as made,
        ):
            stub = pb_grpc.InferenceStub(made)
            async with talk(server.address) as one, talk(server.address) as two:
                await one.welcomed()
                await two.welcomed()
                async with talk(server.address) as third:
                    assert await third.status() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert (await stub.Describe(pb.DescribeRequest())).models
            await until(lambda: server._service.num_streams == 0)
            await answers(server, served)

    settle(run())


def test_streams_that_say_nothing_end(served: Served, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hello, "HELLO_TIMEOUT_S", 0.3)

    async def run() -> None:
        async with (
            cloud(served, bundle, FakeRunner()) as server,
            channel(server.address) as made,
        ):
            silent = [Talk(pb_grpc.InferenceStub(made).Stream()) for _ in range(100)]
            statuses = await asyncio.gather(*(one.status() for one in silent))
            assert set(statuses) == {grpc.StatusCode.DEADLINE_EXCEEDED}
            await until(lambda: server._service.num_streams == 0)
            await answers(server, served)

    settle(run())


async def ended(server: CloudServer, message: bytes, **options: Any) -> grpc.StatusCode:
    """How a stream ends that begins with these bytes."""

    async def once() -> AsyncIterator[bytes]:
        yield message

    unbounded = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 24)]
    async with grpc.aio.insecure_channel(server.address, options=unbounded) as made:
        metadata = options.pop("metadata", None)
        call = made.stream_stream(STREAM.decode())(once(), metadata=metadata, **options)
        with contextlib.suppress(grpc.RpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        return await call.code()


@pytest.mark.parametrize(
    "message",
    [
        bytes(MAX_MESSAGE_BYTES + 1),
        pb.Up(ping=pb.Ping()).SerializeToString() + b"\xfa\x0f" + b"\xff\xff\xff\x07" + bytes(100),
        b"\xff" * 1000,
        b"\x12" * 100_000,
        pb.Up(open=pb.Open(text="x" * (1 << 20))).SerializeToString(),
    ],
    ids=["above gRPC's", "cut", "no message", "deep", "above ours"],
)
def test_message_that_is_none_or_too_large_ends_its_stream(
    served: Served, bundle: Path, message: bytes
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            assert await ended(server, message) != grpc.StatusCode.OK
            await answers(server, served)

    settle(run())


@pytest.mark.slow
def test_compressed_message_is_bounded_by_what_it_holds(served: Served, bundle: Path) -> None:
    """gRPC decompresses before anybody is asked: 30 MB of zeros come as 30 kB."""

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            bomb = pb.Up(chunk=pb.Chunk(data=bytes(30_000_000))).SerializeToString()
            gzip = grpc.Compression.Gzip
            assert await ended(server, bomb, compression=gzip) == grpc.StatusCode.RESOURCE_EXHAUSTED
            await answers(server, served)

    settle(run())


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_large_metadata_is_refused(served: Served, bundle: Path, size: int) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            metadata = (("x-large", "x" * size),)
            hello_message = pb.Up(hello=pb.Hello(protocol_version=1)).SerializeToString()
            assert await ended(server, hello_message, metadata=metadata) == grpc.StatusCode.RESOURCE_EXHAUSTED
            await answers(server, served)

    settle(run())


@pytest.mark.slow
def test_message_of_empty_fields_takes_at_most_80_times_its_size(tmp_path: Path) -> None:
    """Protobuf makes an object for each of half a million inputs before we can count them."""
    prepare = "from wire.v1 import inference_pb2 as pb\ndata = open(sys.argv[1], 'rb').read()"
    grown = {}
    for name, make in FULL.items():
        path = tmp_path / "message"
        path.write_bytes(make())
        taken = peak_bytes_of(prepare, "message = pb.Up.FromString(data)", path)
        grown[name] = taken / path.stat().st_size
    assert 10 < max(grown.values()) < 80, grown


@pytest.mark.parametrize("name", FULL)
def test_message_of_empty_fields_is_refused_and_holds_nobody_up(
    served: Served, bundle: Path, name: str
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            up = pb.Up.FromString(FULL[name]())
            up.open.request_id, up.open.model = "r1", served.name
            started = time.monotonic()
            await t.call.write(up)
            await t.hear("failed", "r1")
            assert time.monotonic() - started < 5
            await t.say(open=opening(served, "hello", request_id="r2"))
            assert await t.text("r2") == "hello "

    settle(run())


def test_limit_of_a_message_follows_the_longest_prompt_up_to_the_protocols_own() -> None:
    assert max_up_bytes(limits()) == 1 << 20
    assert max_up_bytes(limits(max_prompt_chars=400_000)) > 1_600_000
    assert max_up_bytes(limits(max_prompt_chars=10_000_000)) == MAX_MESSAGE_BYTES


def test_there_are_files_for_all_connections_or_fewer_connections() -> None:
    assert files_for(100) == 100
    assert files_for(1 << 40) < 1 << 40


@pytest.mark.parametrize("setting", ["max_connections", "max_streams"])
def test_cloud_that_lets_nobody_in_is_refused(setting: str) -> None:
    with pytest.raises(BadInput, match=f"{setting} is 0"):
        CloudConfig(**{setting: 0})  # type: ignore[arg-type]


def test_message_that_is_none_ends_its_stream_and_fills_no_log(
    served: Served, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, channel(server.address) as made:
            assert await ended(server, b"\xff" * 9) == grpc.StatusCode.DATA_LOSS
            with pytest.raises(grpc.aio.AioRpcError):
                await made.unary_unary("/wire.v1.Inference/Describe")(b"\xff" * 9)
            await answers(server, served)

    settle(run())
    assert not [record for record in caplog.records if record.exc_info]
