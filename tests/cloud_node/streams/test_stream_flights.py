"""Equal requests on streams, over real gRPC: computed once, and none depends on another's edge."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeRunner, cloud, flights_of, num_left, settle, until
from tests.kit.talking import opening, talk
from wire.v1 import inference_pb2 as pb

PAYLOAD = bytes(range(256)) * 2 + bytes(16)  # of split point 1 of the sample manifest, raw
KEY = bytes(range(32))


def asked(served: Served, text: str, request_id: str = "r1", **options: Any) -> pb.Open:
    """An Open whose picture has a key."""
    return opening(served, text, request_id=request_id, **{"payload": PAYLOAD, "input_key": KEY, **options})


def flights_open(server: CloudServer) -> int:
    return flights_of(server).num_open


def test_equal_requests_at_once_are_computed_once(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            async with talk(server.address) as a, talk(server.address) as b:
                for t in (a, b):
                    await t.welcomed()
                await a.say(open=asked(served, "hold then go"))
                await a.hear("deltas")
                await b.say(open=asked(served, "hold then go", is_inline=False))
                await b.say(open=asked(served, "hold then go", "r2"))
                assert (await b.hear("have", "r1")).what == pb.Have.WHAT_ANSWER
                have = await b.hear("have", "r2")
                assert (have.what, have.received_tokens) == (pb.Have.WHAT_ANSWER, 1)
                assert (flights_open(server), flights_of(server).num_joined) == (1, 2)
                runner.release.set()
                dones = {}
                while len(dones) < 2:
                    down = await b.next()
                    if down.WhichOneof("message") == "done":
                        dones[down.done.request_id] = down.done
                assert {done.cache for done in dones.values()} == {pb.CACHE_ANSWER}
                assert {done.generated_tokens for done in dones.values()} == {3}
                assert (await a.hear("done", "r1")).cache == pb.CACHE_MISS
            await until(lambda: not num_left(server))
            assert flights_open(server) == 0
        assert runner.ran == ["hold then go"]

    settle(run())


def test_follower_hears_the_whole_text(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "well hold then go"))
            await t.hear("deltas")
            await asyncio.to_thread(runner.holding.acquire)
            await t.say(open=asked(served, "well hold then go", "r2"))
            await t.hear("have", "r2")
            runner.release.set()
            assert await t.text("r2") == "well hold then go "

    settle(run())


@pytest.mark.parametrize("how", ["cancelled", "late", "gone"])
def test_followers_go_on_without_their_leader(
    served: Served, bundle: Path, runner: FakeRunner, how: str
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as follower:
            await follower.welcomed()
            async with talk(server.address) as leader:
                await leader.welcomed()
                await leader.say(open=asked(served, "hold on", deadline_s=0.2 if how == "late" else 0))
                await leader.hear("deltas")
                await follower.say(open=asked(served, "hold on"))
                await follower.hear("have", "r1")
                if how == "cancelled":
                    await leader.say(cancel=pb.Cancel(request_id="r1"))
                if how != "gone":
                    await leader.hear("failed", "r1")
            await until(lambda: num_left(server) == 2)  # the follower, and what it waits for
            runner.release.set()
            assert await follower.text("r1") == "hold on "
            await until(lambda: not num_left(server))
        assert runner.ran == ["hold on"]

    settle(run())


def test_engine_stops_when_all_who_waited_have_left(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            for name in ("a", "b"):
                await t.say(open=asked(served, "hold for ever", name))
            await t.hear("have", "b")
            await until(lambda: bool(runner.ran))
            for name in ("a", "b"):
                await t.say(cancel=pb.Cancel(request_id=name))
                assert (await t.hear("failed", name)).code == pb.ERROR_CODE_CANCELLED
            await until(lambda: not num_left(server))
            assert flights_open(server) == 0
            runner.release.set()
            await t.say(open=asked(served, "hold for ever", "c"))
            assert await t.text("c") == "hold for ever "
        assert runner.ran == ["hold for ever", "hold for ever"]

    settle(run())


def test_failure_reaches_all_who_wait_and_is_computed_again_when_asked_again(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            for name in ("a", "b"):
                await t.say(open=asked(served, "hold hold fail", name))
            await t.hear("have", "b")
            runner.release.set()
            failed = {(await t.hear("failed")).request_id for _ in range(2)}
            assert failed == {"a", "b"}
            await t.say(open=asked(served, "hold hold fail", "c", is_inline=False))
            assert (await t.hear("have", "c")).what == pb.Have.WHAT_FEATURES
            await t.hear("failed", "c")
            assert num_left(server) == flights_open(server) == 0
        assert runner.ran == ["hold hold fail", "hold hold fail"]

    settle(run())


def test_urgent_request_hastens_the_equal_one_that_it_waits_for(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, max_tail_batch=1) as server, talk(server.address) as t:
            await t.welcomed()
            for number in range(7):
                text = "hold" if number == 0 else f"patient {number}"
                await t.say(open=opening(served, text, request_id=f"p{number}"))
            await t.say(open=asked(served, "wanted", "w1"))
            urgent = asked(served, "wanted", "w2")
            urgent.priority = 9
            await t.say(open=urgent)
            await until(lambda: flights_of(server).num_joined == 1)
            runner.release.set()
            await t.text("p6")
        assert runner.ran.index("wanted") < runner.ran.index("patient 5")
        assert runner.ran[-2:] == ["patient 5", "patient 6"]

    settle(run())
