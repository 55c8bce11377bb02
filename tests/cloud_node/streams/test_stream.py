"""A stream's rules, spoken over real gRPC: who is answered, who is refused, and what is left afterwards."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from cloud_node.asked.served import Served
from cloud_node.streams import hello as hello_module
from tests.kit.clouds import FakeRunner, cloud, num_left, settle, until
from tests.kit.talking import chunk, opening, talk
from wire.v1 import inference_pb2 as pb

PAYLOAD = bytes(range(256)) * 2 + bytes(16)  # of split point 1 of the sample manifest, raw


def test_requests_on_one_stream_are_told_apart_by_their_id(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            for name in ("a", "b", "c"):
                await t.say(open=opening(served, f"I am {name}", request_id=name))
            texts = dict.fromkeys("abc", "")
            ended = set()
            while len(ended) < 3:
                down = await t.next()
                for delta in down.deltas.deltas:
                    texts[delta.request_id] += delta.text
                if down.WhichOneof("message") == "done":
                    ended.add(down.done.request_id)
            assert texts == {"a": "I am a ", "b": "I am b ", "c": "I am c "}

    settle(run())


def test_chunked_payload_arrives_whole_and_is_acknowledged(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", payload=PAYLOAD, is_inline=False))
            await t.hear("need", "r1")
            for offset in range(0, len(PAYLOAD), 100):
                await t.say(chunk=chunk("r1", offset, PAYLOAD[offset : offset + 100]))
            while (await t.hear("ack", "r1")).received_bytes < len(PAYLOAD):
                pass
            assert await t.text("r1") == "hi "
        assert runner.payloads == [PAYLOAD]

    settle(run())


def test_interleaved_uploads_of_two_requests_do_not_mix(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    other = bytes(reversed(PAYLOAD))

    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "a", request_id="a", payload=PAYLOAD, is_inline=False))
            await t.say(open=opening(served, "b", request_id="b", payload=other, is_inline=False))
            for offset in range(0, len(PAYLOAD), 64):
                await t.say(chunk=chunk("a", offset, PAYLOAD[offset : offset + 64]))
                await t.say(chunk=chunk("b", offset, other[offset : offset + 64]))
            await t.hear("done", "a")
            await t.hear("done", "b")
        assert runner.payloads == [PAYLOAD, other]

    settle(run())


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (pb.Up(ping=pb.Ping(nonce=1)), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.Up(), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.Up(hello=pb.Hello(protocol_version=2)), grpc.StatusCode.FAILED_PRECONDITION),
        (pb.Up(hello=pb.Hello()), grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_stream_that_does_not_begin_with_our_hello_fails(
    served: Served, bundle: Path, first: pb.Up, status: grpc.StatusCode
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.call.write(first)
            assert (await t.next()).failed.request_id == ""
            assert await t.status() == status

    settle(run())


def test_silent_stream_fails_after_a_while(
    served: Served, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hello_module, "HELLO_TIMEOUT_S", 0.05)

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            assert await t.status() == grpc.StatusCode.DEADLINE_EXCEEDED

    settle(run())


def test_hello_and_open_go_in_one_flight(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.hello()
            await t.say(open=opening(served, "at once"))
            assert await t.text("r1") == "at once "

    settle(run())


def test_second_hello_ends_the_stream_and_what_is_open_on_it(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold"))
            await t.hear("deltas")
            await t.hello()
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_MALFORMED_MESSAGE
            assert await t.status() == grpc.StatusCode.INVALID_ARGUMENT
            await until(lambda: not num_left(server))

    settle(run())


def test_half_closed_stream_still_answers_what_is_open(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "one last question"))
            await t.call.done_writing()
            assert await t.text("r1") == "one last question "
            assert await t.status() == grpc.StatusCode.OK

    settle(run())


def test_half_closed_stream_does_not_wait_for_an_upload_that_cannot_come(
    served: Served, bundle: Path
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", is_inline=False))
            await t.hear("need", "r1")
            await t.call.done_writing()
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_MALFORMED_MESSAGE
            assert await t.status() == grpc.StatusCode.OK

    settle(run())


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (chunk("r1", 0, b"abc", crc32=1), pb.ERROR_CODE_CORRUPT),
        (chunk("r1", 5, b"abc"), pb.ERROR_CODE_MALFORMED_MESSAGE),
        (chunk("r1", 0, b""), pb.ERROR_CODE_MALFORMED_MESSAGE),
        (chunk("r1", 0, bytes(529)), pb.ERROR_CODE_MALFORMED_MESSAGE),
        (chunk("r1", 0, bytes(65_537)), pb.ERROR_CODE_TOO_LARGE),
        (chunk("r1", 0, b"abc", input_index=1), pb.ERROR_CODE_MALFORMED_MESSAGE),
    ],
)
def test_bad_chunk_ends_its_own_request_only(
    served: Served, bundle: Path, bad: pb.Chunk, code: pb.ErrorCode.ValueType
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", is_inline=False))
            await t.hear("need", "r1")
            await t.say(chunk=bad)
            assert (await t.hear("failed", "r1")).code == code
            await t.say(open=opening(served, "next", request_id="r2"))
            assert await t.text("r2") == "next "
            assert num_left(server) == 0

    settle(run())


def test_payload_with_another_crc_is_refused(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            wrong = opening(served, "hi", payload=PAYLOAD, is_inline=False)
            wrong.inputs[0].crc32 += 1
            await t.say(open=wrong)
            await t.say(chunk=chunk("r1", 0, PAYLOAD))
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_CORRUPT
            inline = opening(served, "hi", request_id="r2", payload=PAYLOAD)
            inline.inputs[0].crc32 += 1
            await t.say(open=inline)
            assert (await t.hear("failed", "r2")).code == pb.ERROR_CODE_CORRUPT
        assert runner.ran == []

    settle(run())


def test_chunk_and_cancel_of_an_unknown_request_are_ignored(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(chunk=chunk("nobody", 0, b"abc"))
            await t.say(cancel=pb.Cancel(request_id="nobody"))
            await t.say(ping=pb.Ping(nonce=5))
            assert (await t.next()).pong.nonce == 5

    settle(run())


def test_open_with_the_id_of_an_open_request_ends_the_stream(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold"))
            await t.say(open=opening(served, "hi"))
            assert await t.status() == grpc.StatusCode.INVALID_ARGUMENT

    settle(run())
