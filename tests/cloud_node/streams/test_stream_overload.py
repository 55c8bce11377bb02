"""Overload, spoken over real gRPC: refused before the upload, and at once; what was held is given back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from cloud_node.asked.held_bytes import HeldBytes
from cloud_node.asked.request import OWN_BYTES
from cloud_node.asked.served import Served
from cloud_node.engine.load import Load, has_changed_much
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeRunner, cloud, engine_of, limits, settle, until
from tests.kit.talking import Talk, chunk, opening, talk
from wire.v1 import inference_pb2 as pb

PAYLOAD = bytes(528)  # of split point 1 of the sample manifest, raw
KEY = bytes(range(32))


def learns_to_be_slow(server: CloudServer) -> None:
    """From now on it knows that a request takes 10 s."""
    pace = engine_of(server).pace
    pace.prepare_s.value = 10.0
    for _ in range(20):
        pace.ended(10.0, 10.0)


def held_by(server: CloudServer) -> HeldBytes:
    return server._service._host.held


async def is_busy(t: Talk, served: Served, server: CloudServer) -> None:
    await t.say(open=opening(served, "hold", request_id="hold"))
    await until(lambda: engine_of(server).num_running == 1)


def test_what_cannot_be_done_in_time_is_refused_before_it_is_uploaded(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await is_busy(t, served, server)
            learns_to_be_slow(server)
            await t.say(open=opening(served, "late", request_id="late", deadline_s=1.0, is_inline=False))
            kinds = set()
            while (down := await t.next()).WhichOneof("message") != "failed":
                kinds.add(down.WhichOneof("message"))
            assert down.failed.request_id == "late"
            assert (down.failed.code, down.failed.fault) == (pb.ERROR_CODE_OVERLOADED, pb.FAULT_SERVER)
            assert down.failed.retry_after_s > 1.0
            assert "need" not in kinds
            await t.say(open=opening(served, "patient", request_id="patient", deadline_s=60.0))
            runner.release.set()
            assert await t.text("patient") == "patient "

    settle(run())


def test_repeated_answer_is_given_however_busy_the_cloud_is(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", input_key=KEY))
            assert await t.text("r1") == "hi "
            await is_busy(t, served, server)
            learns_to_be_slow(server)
            await t.say(
                open=opening(
                    served,
                    "hi",
                    request_id="r2",
                    deadline_s=1.0,
                    input_key=KEY,
                    payload=PAYLOAD,
                    is_inline=False,
                )
            )
            assert await t.text("r2") == "hi "
            runner.release.set()

    settle(run())


Ending = Callable[[Talk, CloudServer, FakeRunner], Awaitable[None]]


async def is_answered(t: Talk, server: CloudServer, runner: FakeRunner) -> None:
    await t.say(chunk=chunk("r1", 0, PAYLOAD))
    assert await t.text("r1") == "hi "


async def is_cancelled(t: Talk, server: CloudServer, runner: FakeRunner) -> None:
    await t.say(chunk=chunk("r1", 0, PAYLOAD[:100]))
    await t.say(cancel=pb.Cancel(request_id="r1"))
    await t.hear("failed", "r1")


async def breaks_the_rules(t: Talk, server: CloudServer, runner: FakeRunner) -> None:
    await t.say(chunk=chunk("r1", 7, PAYLOAD[:100]))
    await t.hear("failed", "r1")


async def is_gone(t: Talk, server: CloudServer, runner: FakeRunner) -> None:
    await t.say(chunk=chunk("r1", 0, PAYLOAD[:100]))
    t.call.cancel()


@pytest.mark.parametrize("ending", [is_answered, is_cancelled, breaks_the_rules, is_gone])
def test_memory_is_taken_at_the_open_and_given_back_at_any_end(
    served: Served, bundle: Path, runner: FakeRunner, ending: Ending
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", payload=PAYLOAD, is_inline=False))
            await t.hear("need", "r1")
            assert held_by(server).num_bytes >= len(PAYLOAD)
            await ending(t, server, runner)
            await until(lambda: held_by(server).num_bytes == 0)

    settle(run())


def test_memory_is_given_back_by_one_that_waits_in_the_queue_and_by_those_that_are_prepared(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, max_tail_batch=1) as server, talk(server.address) as t:
            await t.welcomed()
            await is_busy(t, served, server)
            for number in range(4):
                await t.say(open=opening(served, f"ask {number}", request_id=f"q{number}"))
            # One runs, two are prepared ahead, and two wait with their payloads.
            await until(lambda: engine_of(server)._room.num_queued == 2 and len(runner.prepared) == 3)
            await until(
                lambda: held_by(server).num_bytes == 2 * (len(PAYLOAD) + 4 * len("ask 0") + OWN_BYTES)
            )
            await t.say(cancel=pb.Cancel(request_id="q3"))
            await t.hear("failed", "q3")
            assert held_by(server).num_bytes == len(PAYLOAD) + 4 * len("ask 2") + OWN_BYTES
            runner.release.set()
            await t.text("q2")
            assert held_by(server).num_bytes == 0

    settle(run())


def test_request_beyond_the_memory_for_all_is_refused_before_it_is_uploaded(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        bounds = limits(max_request_bytes=600, max_prompt_chars=10)
        settings = {"limits": bounds, "max_held_bytes": 2 * OWN_BYTES + 1300}
        async with cloud(served, bundle, runner, **settings) as server, talk(server.address) as t:
            await t.welcomed()
            for number in range(2):
                await t.say(open=opening(served, "hi", request_id=f"r{number}", is_inline=False))
            await t.hear("need", "r0")
            failed = await t.hear("failed", "r1")
            assert failed.code == pb.ERROR_CODE_OVERLOADED
            assert failed.retry_after_s > 0
            await t.say(chunk=chunk("r0", 0, PAYLOAD))
            assert await t.text("r0") == "hi "

    settle(run())


def test_edges_hear_when_the_cloud_is_busy_and_when_it_is_idle_again(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with (
            cloud(served, bundle, runner, load_every_s=0.01) as server,
            talk(server.address) as t,
            talk(server.address) as other,
        ):
            await t.welcomed()
            await other.welcomed()
            await is_busy(t, served, server)
            for one in (t, other):
                while (load := await one.hear("load")) != pb.Load(queued=0, active=1, slots=1):
                    assert load == pb.Load(queued=1, active=0, slots=1)
            runner.release.set()
            for one in (t, other):
                assert await one.hear("load") == pb.Load(queued=0, active=0, slots=1)

    settle(run())


@pytest.mark.parametrize(
    ("told", "now", "is_news"),
    [
        (Load(), Load(0, 3, 16), False),
        (Load(), Load(0, 4, 16), True),
        (Load(0, 4, 16), Load(0, 1, 16), False),
        (Load(0, 4, 16), Load(0, 0, 16), True),
        (Load(10, 16, 16), Load(14, 16, 16), False),
        (Load(10, 16, 16), Load(15, 16, 16), True),
        (Load(40, 16, 16), Load(30, 16, 16), False),
        (Load(40, 16, 16), Load(20, 16, 16), True),
    ],
)
def test_load_is_news_where_it_has_changed_much(told: Load, now: Load, is_news: bool) -> None:
    assert has_changed_much(told, now) == is_news


def test_stream_beyond_the_limit_is_refused_and_welcome_when_another_has_ended(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, max_streams=1) as server:
            async with talk(server.address) as first:
                await first.welcomed()
                async with talk(server.address) as second:
                    assert await second.status() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert server._service.num_streams == 1
            await until(lambda: server._service.num_streams == 0)
            async with talk(server.address) as third:
                await third.welcomed()

    settle(run())
