"""A stream that loses or damages messages ends, and what was on it goes on elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from cloud_node.asked.served import Served
from tests.kit.clouds import FakeRunner, cloud, settle
from tests.kit.talking import Talk, channel, chunk, opening, talk
from wire.checked import encode
from wire.v1 import inference_pb2 as pb

METHOD = "/wire.v1.Inference/Stream"


def test_pong_and_ping_tell_how_many_messages_went_before(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed("edge")
            await t.say(ping=pb.Ping(nonce=1, sent_messages=1))
            num_heard = 1
            while (down := await t.next()).WhichOneof("message") != "pong":
                num_heard += 1
            assert down.pong.sent_messages == num_heard
            await t.say(ping=pb.Ping(nonce=2, sent_messages=2))
            assert (await t.hear("pong")).nonce == 2
            await t.say(ping=pb.Ping(nonce=3))  # not counted
            assert (await t.hear("pong")).nonce == 3

    settle(run())


async def _resumed(address: str, served: Served, runner: FakeRunner) -> str:
    """What the edge hears that comes back to its request."""
    async with talk(address) as t:
        await t.welcomed("edge")
        again = opening(served, "one hold two", is_inline=False)
        again.resume.received_tokens = 0
        await t.say(open=again)
        assert (await t.hear("have")).what == pb.Have.WHAT_ANSWER
        runner.release.set()
        return await t.text("r1")


def test_message_that_never_came_ends_the_stream_and_its_requests_go_on(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server:
            async with talk(server.address) as t:
                await t.welcomed("edge")
                await t.say(open=opening(served, "one hold two"))
                await t.hear("deltas")
                await t.say(ping=pb.Ping(sent_messages=3))
                assert await t.status() is grpc.StatusCode.DATA_LOSS
            assert await _resumed(server.address, served, runner) == "one hold two "
        assert runner.ran == ["one hold two"]

    settle(run())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:5] + bytes([data[5] ^ 1]) + data[6:],
        lambda data: data[:-1],
        lambda data: b"\xff" * 20,
    ],
    ids=["first byte", "another id", "cut off", "noise"],
)
def test_damaged_message_ends_the_stream_and_its_requests_go_on(
    served: Served, bundle: Path, runner: FakeRunner, damage: Any
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server:
            async with channel(server.address) as made:
                call = made.stream_stream(METHOD, response_deserializer=pb.Down.FromString)()
                await call.write(encode(pb.Up(hello=pb.Hello(protocol_version=1, edge_id="edge"))))
                await call.write(encode(pb.Up(open=opening(served, "one hold two"))))
                while (await call.read()).WhichOneof("message") != "deltas":
                    pass
                await call.write(damage(encode(pb.Up(chunk=chunk("r1", 0, b"late")))))
                assert await Talk(call).status() is grpc.StatusCode.DATA_LOSS
            assert await _resumed(server.address, served, runner) == "one hold two "
        assert runner.ran == ["one hold two"]

    settle(run())
