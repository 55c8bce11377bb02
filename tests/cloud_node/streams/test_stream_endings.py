"""How requests on a stream end before their time: refused, failed, cancelled, late; and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_node.asked.served import Bounds, Served
from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.engine.engine import Engine, EngineSettings
from cloud_node.streams.host import Host, Hosted
from cloud_node.streams.outbox import PAUSE_AT
from cloud_node.streams.requests import OpenRequests
from cloud_node.streams.stream import EdgeStream
from tests.kit.clouds import SECRET, FakeRunner, cloud, limits, num_left, settle, until
from tests.kit.talking import chunk, opening, talk
from tests.kit.unobserved import Unobserved
from wire.v1 import inference_pb2 as pb

PAYLOAD = bytes(range(256)) * 2 + bytes(16)  # of split point 1 of the sample manifest, raw


def test_more_open_requests_than_allowed_are_refused_with_a_time_to_retry(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        settings = {"limits": limits(max_open_requests=1)}
        async with cloud(served, bundle, runner, **settings) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold"))
            await t.say(open=opening(served, "hi", request_id="r2"))
            failed = await t.hear("failed", "r2")
            assert failed.code == pb.ERROR_CODE_OVERLOADED
            assert failed.retry_after_s > 0

    settle(run())


def test_full_queue_refuses_with_a_time_to_retry_and_loses_nobody(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, max_queue=1) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold", request_id="runs"))
            await t.hear("deltas")
            await t.say(open=opening(served, "waits", request_id="waits"))
            await t.say(open=opening(served, "no", request_id="third"))
            failed = await t.hear("failed", "third")
            assert (failed.code, failed.fault) == (pb.ERROR_CODE_OVERLOADED, pb.FAULT_SERVER)
            assert failed.retry_after_s > 0
            runner.release.set()
            assert await t.text("waits") == "waits "

    settle(run())


def test_failure_in_the_model_ends_its_own_request_and_tells_no_text_of_it(
    served: Served, bundle: Path
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "fail", request_id="bad"))
            await t.say(open=opening(served, "good", request_id="good"))
            failed = await t.hear("failed", "bad")
            assert failed.code == pb.ERROR_CODE_MODEL_FAILED
            assert SECRET not in failed.message
            assert await t.text("good") == "good "

    settle(run())


def test_cancelled_request_stops_and_the_next_is_answered(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold"))
            await t.hear("deltas")
            await t.say(open=opening(served, "next", request_id="r2"))
            await t.say(cancel=pb.Cancel(request_id="r1"))
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_CANCELLED
            assert await t.text("r2") == "next "
            await until(lambda: not num_left(server))

    settle(run())


def test_waiting_request_that_is_cancelled_never_runs(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold", request_id="a"))
            await t.say(open=opening(served, "never", request_id="b"))
            await t.hear("ack", "b")
            await t.say(cancel=pb.Cancel(request_id="b"))
            assert (await t.hear("failed", "b")).code == pb.ERROR_CODE_CANCELLED
            runner.release.set()
            await t.hear("done", "a")
        assert runner.ran == ["hold"]

    settle(run())


def test_edge_that_disconnects_leaves_nothing_behind(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            async with talk(server.address) as t:
                await t.welcomed()
                await t.say(open=opening(served, "hold", request_id="runs"))
                await t.hear("deltas")
                await t.say(open=opening(served, "hi", request_id="waits"))
                await t.say(open=opening(served, "hi", request_id="uploads", is_inline=False))
                await t.hear("need", "uploads")
            await until(lambda: not num_left(server) and not server._service._streams)
            async with talk(server.address) as t:
                await t.welcomed()
                await t.say(open=opening(served, "another edge"))
                assert await t.text("r1") == "another edge "

    settle(run())


@pytest.mark.parametrize("where", ["uploading", "queued", "decoding"])
def test_deadline_ends_a_request_wherever_it_is(
    served: Served, bundle: Path, runner: FakeRunner, where: str
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            if where == "queued":
                await t.say(open=opening(served, "hold", request_id="other"))
                await t.hear("deltas")
            late = opening(served, "hold", is_inline=where != "uploading", deadline_s=0.1)
            await t.say(open=late)
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_DEADLINE_EXCEEDED
            runner.release.set()
            await t.say(open=opening(served, "next", request_id="r2"))
            assert await t.text("r2") == "next "
            await until(lambda: not num_left(server))

    settle(run())


def test_upload_that_stalls_is_given_up(served: Served, bundle: Path) -> None:
    async def run() -> None:
        settings = {"limits": limits(upload_idle_s=0.05)}
        async with cloud(served, bundle, FakeRunner(), **settings) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", is_inline=False))
            await t.say(chunk=chunk("r1", 0, b"abc"))
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_DEADLINE_EXCEEDED

    settle(run())


def test_small_chunks_are_acknowledged_too(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hi", is_inline=False))
            for offset in range(16):
                await t.say(chunk=chunk("r1", offset, b"\0"))
            while (await t.hear("ack", "r1")).received_bytes < 16:
                pass

    settle(run())


def test_edge_that_reads_nothing_is_read_no_further(served: Served, runner: FakeRunner) -> None:
    num_read = 0

    async def pings() -> AsyncIterator[pb.Up]:
        nonlocal num_read
        yield pb.Up(hello=pb.Hello(protocol_version=1))
        for num_read in range(10 * PAUSE_AT):
            yield pb.Up(ping=pb.Ping(nonce=num_read))

    async def run() -> None:
        engine = Engine(runner, EngineSettings(num_slots=1, tell_every_s=0), Unobserved())
        cache = Cache(None)
        bounds = Bounds(limits(), 60, 60)
        host = Host({served.name: Hosted(served, Flights(engine, cache))}, bounds, "0", cache)
        down = EdgeStream(host, OpenRequests(host, 8)).run(pings())
        await anext(down)
        for _ in range(100):
            await asyncio.sleep(0)
        assert num_read <= PAUSE_AT
        async for _ in down:
            pass
        assert num_read == 10 * PAUSE_AT - 1
        await engine.close()

    settle(run())


def test_step_that_fails_unforeseen_ends_its_own_request_and_leaves_nothing(
    served: Served, bundle: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system lets no thread begin any more."""

    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed("edge")
            with monkeypatch.context() as patched:
                patched.setattr(Cache, "features_key", no_thread)
                await t.say(open=opening(served, SECRET))
                failed = await t.hear("failed")
            assert (failed.code, failed.fault) == (pb.ERROR_CODE_INTERNAL, pb.FAULT_SERVER)
            assert num_left(server) == 0
            await t.say(open=opening(served, "next", request_id="r2"))
            assert await t.text("r2") == "next "

    async def no_thread(*_: object) -> bytes:
        raise RuntimeError("can't start new thread")

    settle(run())
