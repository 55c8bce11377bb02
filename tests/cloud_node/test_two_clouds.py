"""Two clouds that share a Redis, over real gRPC: what one has, the other need not be sent, and need not compute."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeRunner, cloud, flights_of, num_left, settle, until
from tests.kit.redis_servers import RedisServer, redis_server
from tests.kit.talking import Talk, opening, talk
from wire.v1 import inference_pb2 as pb

PAYLOAD = bytes(range(256)) * 2 + bytes(16)  # of split point 1 of the sample manifest, raw
KEY = bytes(range(32))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@dataclass
class Node:
    """A cloud, its runner, and a stream to it."""

    server: CloudServer
    runner: FakeRunner
    talk: Talk


@dataclass(frozen=True)
class Pair:
    """What makes two clouds of one Redis."""

    served: Served
    bundle: Path
    redis: RedisServer

    @contextlib.asynccontextmanager
    async def node(self, timeout_s: float = 5.0, **config: Any) -> AsyncIterator[Node]:
        runner = FakeRunner()
        settings = self.redis.settings(timeout_s=timeout_s)
        async with (
            cloud(self.served, self.bundle, runner, redis=settings, **config) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            yield Node(server, runner, t)

    def asked(self, text: str, request_id: str = "r1", **options: Any) -> pb.Open:
        given = {"payload": PAYLOAD, "input_key": KEY, **options}
        return opening(self.served, text, request_id=request_id, **given)


@pytest.fixture
def pair(served: Served, bundle: Path, redis: RedisServer) -> Pair:
    return Pair(served, bundle, redis)


async def written(node: Node) -> None:
    """Another cloud finds what this one has kept."""
    store: Any = node.server._parts.store
    await until(lambda: not flights_of(node.server)._keeping)
    await store.flush()


async def is_waiting(node: Node) -> None:
    """For another cloud's answer."""
    await until(lambda: any(flight.turn is not None for flight in flights_of(node.server)._open))


async def done(node: Node, request_id: str = "r1") -> tuple[str, pb.Done]:
    text = ""
    while True:
        down = await node.talk.next()
        match down.WhichOneof("message"):
            case "deltas":
                text += "".join(d.text for d in down.deltas.deltas if d.request_id == request_id)
            case "failed":
                raise AssertionError(down.failed.message)
            case "done" if down.done.request_id == request_id:
                return text, down.done


def test_answer_that_one_cloud_computed_is_repeated_by_the_other(pair: Pair) -> None:
    async def run() -> None:
        async with pair.node() as a, pair.node() as b:
            await a.talk.say(open=pair.asked("what is this"))
            assert (await done(a))[1].cache == pb.CACHE_MISS
            await written(a)
            await b.talk.say(open=pair.asked("what is this", is_inline=False))
            assert (await b.talk.hear("have", "r1")).what == pb.Have.WHAT_ANSWER
            text, end = await done(b)
            assert (text, end.cache) == ("what is this ", pb.CACHE_ANSWER)
            assert 0 < end.times.cache_s <= end.times.total_s
        assert b.runner.ran == []

    settle(run())


def at_another_arm(pair: Pair, text: str) -> pb.Open:
    """The same picture at split point 2."""
    asking = pair.asked(text, is_inline=False)
    asking.inputs[0].split_point = 2
    asking.inputs[0].total_bytes = 512
    del asking.inputs[0].tensors[1:]
    return asking


def test_second_question_on_another_cloud_uploads_nothing(pair: Pair) -> None:
    async def run() -> None:
        async with pair.node() as a, pair.node() as b:
            await a.talk.say(open=pair.asked("one"))
            await done(a)
            await written(a)
            # Another arm than the stored one, which is lossless: it serves.
            await b.talk.say(open=at_another_arm(pair, "two"))
            have = await b.talk.hear("have", "r1")
            assert (have.what, have.received_bytes) == (pb.Have.WHAT_FEATURES, 0)
            text, end = await done(b)
            assert (text, end.cache) == ("two ", pb.CACHE_FEATURES)
        assert b.runner.payloads == [PAYLOAD]

    settle(run())


def test_request_that_goes_on_elsewhere_is_answered_from_its_own_arm_alone(pair: Pair) -> None:
    """What follows its first tokens is what the same features say."""

    async def run() -> None:
        async with pair.node() as a, pair.node() as b:
            await a.talk.say(open=pair.asked("one"))
            await done(a)
            await written(a)
            asking = at_another_arm(pair, "two")
            asking.resume.received_tokens = 1
            await b.talk.say(open=asking)
            await b.talk.hear("need", "r1")

    settle(run())


def test_equal_requests_on_two_clouds_at_once_are_computed_once(pair: Pair) -> None:
    async def run() -> None:
        async with pair.node() as a, pair.node() as b:
            await a.talk.say(open=pair.asked("hold then go"))
            await a.talk.hear("deltas")
            await b.talk.say(open=pair.asked("hold then go"))
            await is_waiting(b)
            # Waits with the one that waits already.
            await b.talk.say(open=pair.asked("hold then go", "r2"))
            assert (await b.talk.hear("have", "r2")).what == pb.Have.WHAT_ANSWER
            a.runner.release.set()
            assert (await done(a))[1].cache == pb.CACHE_MISS
            dones = {}
            while len(dones) < 2:
                if (down := await b.talk.next()).WhichOneof("message") == "done":
                    dones[down.done.request_id] = down.done
            assert {end.cache for end in dones.values()} == {pb.CACHE_ANSWER}
            assert dones["r1"].generated_tokens == 3
            assert dones["r1"].times.cache_s > 0 == dones["r1"].times.decode_s
            assert flights_of(b.server).num_joined_elsewhere == 2
            await until(lambda: not num_left(b.server) and not flights_of(b.server).num_open)
        assert (a.runner.ran, b.runner.ran) == (["hold then go"], [])

    settle(run())


@pytest.mark.parametrize("how", ["cancelled", "closed", "redis killed", "redis paused"])
def test_whoever_waits_computes_when_the_other_cloud_does_not(pair: Pair, how: str) -> None:
    async def run() -> None:
        async with contextlib.AsyncExitStack() as leaders, pair.node(timeout_s=0.5) as b:
            a = await leaders.enter_async_context(pair.node())
            await a.talk.say(open=pair.asked("hold then go"))
            await a.talk.hear("deltas")
            b.runner.release.set()
            await b.talk.say(open=pair.asked("hold then go"))
            await is_waiting(b)
            match how:
                case "cancelled":
                    await a.talk.say(cancel=pb.Cancel(request_id="r1"))
                case "closed":
                    await leaders.aclose()
                case "redis killed":
                    pair.redis.kill()
                case "redis paused":
                    pair.redis.pause()
            text, end = await done(b)
            assert text == "hold then go "
            assert end.cache in (pb.CACHE_MISS, pb.CACHE_FEATURES)
            if how == "redis paused":
                pair.redis.resume()
        assert b.runner.ran == ["hold then go"]

    settle(run())


def test_leader_that_is_cancelled_leaves_the_others_on_its_own_cloud_waiting_for_it(pair: Pair) -> None:
    async def run() -> None:
        async with pair.node() as a, pair.node() as b:
            await a.talk.say(open=pair.asked("hold then go"))
            await a.talk.say(open=pair.asked("hold then go", "r2"))
            await a.talk.hear("have", "r2")
            await b.talk.say(open=pair.asked("hold then go"))
            await is_waiting(b)
            await a.talk.say(cancel=pb.Cancel(request_id="r1"))
            await a.talk.hear("failed", "r1")
            a.runner.release.set()
            assert (await done(b))[0] == "hold then go "
            assert (await done(a, "r2"))[1].generated_tokens == 3
        assert (a.runner.ran, b.runner.ran) == (["hold then go"], [])

    settle(run())


@pytest.mark.parametrize("how", ["late", "cancelled"])
def test_request_that_waits_for_another_cloud_ends_when_it_must(pair: Pair, how: str) -> None:
    async def run() -> None:
        async with pair.node() as a, pair.node() as b:
            await a.talk.say(open=pair.asked("hold then go"))
            await a.talk.hear("deltas")
            # Half of its time is for computing it here: the runner holds that, too.
            await b.talk.say(open=pair.asked("hold then go", deadline_s=0.5 if how == "late" else 0))
            await is_waiting(b)
            if how == "cancelled":
                await b.talk.say(cancel=pb.Cancel(request_id="r1"))
            failed = await b.talk.hear("failed", "r1")
            expected = pb.ERROR_CODE_DEADLINE_EXCEEDED if how == "late" else pb.ERROR_CODE_CANCELLED
            assert failed.code == expected
            await until(lambda: not num_left(b.server) and not flights_of(b.server).num_open)
            a.runner.release.set()
            assert (await done(a))[1].generated_tokens == 3

    settle(run())


def test_cloud_without_its_redis_answers_as_if_it_had_none(pair: Pair) -> None:
    async def run() -> None:
        pair.redis.kill()
        async with pair.node() as a:
            for name in ("r1", "r2"):
                await a.talk.say(open=pair.asked("what is this", name))
                assert (await done(a, name))[1].cache == pb.CACHE_MISS
            exposition = a.server.metrics.exposition()
            assert "cleave_redis_up 0.0" in exposition
        assert a.runner.ran == ["what is this"] * 2

    settle(run())


def test_overload_is_told_where_a_turn_was_taken(pair: Pair) -> None:
    async def run() -> None:
        async with pair.node(max_queue=1) as a:
            await a.talk.say(open=pair.asked("hold then go", "running"))
            await a.talk.hear("deltas")
            for name in ("waiting", "too many"):
                await a.talk.say(open=pair.asked(name, name.replace(" ", "-")))
            failed = await a.talk.hear("failed")
            assert failed.code == pb.ERROR_CODE_OVERLOADED
            a.runner.release.set()
            left = {"running", "waiting", "too-many"} - {failed.request_id}
            for _ in left:
                assert (await a.talk.hear("done")).request_id in left
            await written(a)
        with pair.redis.client() as client:
            assert not client.keys(b"cleave:*:lease:*")

    settle(run())
