"""A request outlives its stream: in bytes, in tokens, for its own edge and tenant, for a while, within bounds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cloud_node.asked.sequence import TextDelta
from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from cloud_node.streams.detached import oldest_of_most
from cloud_node.streams.opened import RequestKey, unheard
from tests.kit.clouds import FakeRunner, cloud, limits, num_left, settle, until
from tests.kit.talking import Talk, chunk, opening, talk
from wire.v1 import inference_pb2 as pb

HALF = 264  # bytes of the payload of 528


@contextlib.asynccontextmanager
async def welcomed(server: CloudServer, edge_id: str = "edge") -> AsyncIterator[Talk]:
    async with talk(server.address) as t:
        await t.welcomed(edge_id)
        yield t


async def lost(server: CloudServer) -> None:
    await until(lambda: server._service.num_streams == 0)


def again(served: Served, text: str, tokens: int = 0, **options: Any) -> pb.Open:
    message = opening(served, text, is_inline=False, **options)
    message.resume.received_tokens = tokens
    return message


async def heard_text(t: Talk, num_tokens: int) -> str:
    text, count = "", 0
    while count < num_tokens:
        for delta in (await t.hear("deltas")).deltas:
            text, count = text + delta.text, count + delta.num_tokens
    return text


def test_upload_goes_on_from_the_bytes_that_came(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        payload = bytes(range(256)) * 2 + bytes(16)
        async with cloud(served, bundle, runner, cache_bytes=0) as server:
            async with welcomed(server) as t:
                await t.say(open=opening(served, "hi", payload=payload, is_inline=False))
                await t.hear("need")
                await t.say(chunk=chunk("r1", 0, payload[:HALF]))
                await t.say(ping=pb.Ping())
                await t.hear("pong")
            await lost(server)
            assert server._service.requests.num_detached == 1
            async with welcomed(server) as t:
                await t.say(open=again(served, "hi", payload=payload))
                assert (await t.hear("need")).from_offset == HALF
                await t.say(chunk=chunk("r1", HALF, payload[HALF:]))
                assert await t.text("r1") == "hi "
            assert num_left(server) == server._service.requests.num_detached == 0
        assert runner.payloads == [payload]

    settle(run())


def test_answer_goes_on_after_the_tokens_that_the_edge_has(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server:
            async with welcomed(server) as t:
                await t.say(open=opening(served, "one two hold three"))
                assert await heard_text(t, 3) == "one two hold "
            await lost(server)
            assert num_left(server) == 2  # in the engine, and open
            async with welcomed(server) as t:
                await t.say(open=again(served, "one two hold three", 2))
                assert (await t.hear("have")).received_tokens == 3
                assert await heard_text(t, 1) == "hold "
                runner.release.set()
                assert await t.text("r1") == "three "
            await until(lambda: not num_left(server))
        assert runner.prepared == ["one two hold three"]

    settle(run())


def test_answer_that_ended_meanwhile_waits_for_its_edge_and_is_told_once(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server:
            async with welcomed(server) as t:
                await t.say(open=opening(served, "one hold two"))
                await heard_text(t, 2)
            await lost(server)
            runner.release.set()
            await until(lambda: not num_left(server))
            assert server._service.requests.num_detached == 1
            async with welcomed(server) as t:
                await t.say(open=again(served, "one hold two", 1))
                assert await t.text("r1") == "hold two "
                assert server._service.requests.num_detached == 0
                await t.say(open=again(served, "one hold two", 1))
                await t.hear("need")  # forgotten: it would be computed again

    settle(run())


def test_stream_that_nobody_noticed_as_lost_hands_its_request_over(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server, welcomed(server) as old:
            await old.say(open=opening(served, "one hold two"))
            await heard_text(old, 2)
            async with welcomed(server) as new:
                await new.say(open=again(served, "one hold two", 0))
                await new.hear("have")
                runner.release.set()
                assert await new.text("r1") == "one hold two "
            await old.say(ping=pb.Ping())
            assert (await old.next()).WhichOneof("message") == "pong"

    settle(run())


@pytest.mark.parametrize(
    ("edge_id", "request_id"), [("another", "r1"), ("edge", "r2"), ("", "r1")], ids=["edge", "id", "nameless"]
)
def test_request_of_another_edge_or_id_is_not_found(
    served: Served, bundle: Path, runner: FakeRunner, edge_id: str, request_id: str
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server:
            async with welcomed(server) as t:
                await t.say(open=opening(served, "one hold two"))
                await heard_text(t, 2)
            await lost(server)
            async with welcomed(server, edge_id) as t:
                await t.say(open=again(served, "one hold two", 1, request_id=request_id))
                assert (await t.hear("need")).from_offset == 0

    settle(run())


@pytest.mark.parametrize("text", ["one hold three"])
def test_resumed_open_that_asks_for_something_else_is_refused(
    served: Served, bundle: Path, runner: FakeRunner, text: str
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            async with welcomed(server) as t:
                await t.say(open=opening(served, "one hold two"))
                await heard_text(t, 2)
            await lost(server)
            async with welcomed(server) as t:
                await t.say(open=again(served, text))
                failed = await t.hear("failed")
                assert failed.code == pb.ERROR_CODE_MALFORMED_MESSAGE
                assert "asks for something else" in failed.message
                await t.say(open=opening(served, "one hold two"))  # without Resume: an id that is taken
                assert "id of a request that is open" in (await t.hear("failed")).message

    settle(run())


def test_edge_without_a_name_ends_its_requests_with_its_stream(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            async with welcomed(server, "") as t:
                await t.say(open=opening(served, "one hold two"))
                await heard_text(t, 2)
            await until(lambda: not num_left(server))
            assert server._service.requests.num_detached == 0

    settle(run())


def test_edge_that_stays_away_loses_its_request(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, limits=limits(resume_s=0.05)) as server:
            async with welcomed(server) as t:
                await t.say(open=opening(served, "one hold two"))
                await heard_text(t, 2)
            await until(lambda: not num_left(server))
            assert server._service.requests.num_detached == len(server._service.requests._resumable) == 0
            assert 'outcome="cancelled"' in server.metrics.exposition()

    settle(run())


def test_no_more_than_the_bound_wait_for_their_edges(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, max_detached=2) as server:
            async with welcomed(server) as t:
                for number in range(3):
                    message = opening(served, "hi", request_id=f"r{number}", is_inline=False)
                    await t.say(open=message)
                    await t.hear("need")
            await until(lambda: server._service.num_streams == 0)
            assert server._service.requests.num_detached == num_left(server) == 2

    settle(run())


def test_stream_that_carries_nothing_is_closed(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        bounds = limits(stream_idle_s=0.05)
        async with cloud(served, bundle, runner, limits=bounds) as server, welcomed(server) as t:
            assert "nothing was asked" in (await t.hear("go_away")).reason
            assert await t.status() == grpc.StatusCode.OK

    settle(run())


def test_stream_with_a_request_is_not_idle(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        bounds = limits(stream_idle_s=0.05)
        async with cloud(served, bundle, runner, limits=bounds) as server, welcomed(server) as t:
            await t.say(open=opening(served, "hold hi", deadline_s=0.3))
            assert (await t.hear("failed")).code == pb.ERROR_CODE_DEADLINE_EXCEEDED
            await t.hear("go_away")

    settle(run())


def test_only_what_the_edge_lacks_is_said_again() -> None:
    one, two = TextDelta("a", 0, 2), TextDelta("b", 2, 1)
    assert unheard([one, two], 0) == [one, two]
    assert unheard([one, two], 2) == [two]
    assert unheard([one, two], 3) == []
    assert unheard([one, two], 1) == [one, two]  # inside a delta
    assert unheard([one, two], 9) == [one, two]  # more than was said here
    assert unheard([], 5) == []


def test_the_oldest_of_the_tenant_that_has_the_most_makes_room() -> None:
    keys = [RequestKey(tenant, "e", str(number)) for number, tenant in enumerate(["a", "b", "b", "a", "b"])]
    assert oldest_of_most(keys) == keys[1]
    assert oldest_of_most(keys[:4]) == keys[0]
