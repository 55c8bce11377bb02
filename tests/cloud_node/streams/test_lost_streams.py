"""A stream that is lost, or stuck, in the middle of something: its requests go on, and it holds nothing for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from cloud_node.asked.served import Served
from cloud_node.caching.store import MemoryStore
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeRunner, cloud, limits, num_left, settle, until
from tests.kit.talking import Talk, chunk, opening, talk
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

# gRPC would take megabytes for a client that reads nothing.
_SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
KEY = bytes(range(32))


class SlowStore(MemoryStore):
    """Looks nothing up, or keeps nothing, before it may."""

    def __init__(self, slow: str) -> None:
        super().__init__(1 << 20, 60.0)
        self._slow = slow
        self.num_waiting = 0
        self.may_go = asyncio.Event()

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        await self._wait("get")
        return await super().get_many(keys)

    async def put(self, key: bytes, value: bytes) -> None:
        await self._wait("put")
        await super().put(key, value)

    async def _wait(self, what: str) -> None:
        if what == self._slow:
            self.num_waiting += 1
            await self.may_go.wait()
            self.num_waiting -= 1


def slowed(server: CloudServer, what: str) -> SlowStore:
    store = SlowStore(what)
    server._parts.cache._store = store
    return store


def again(served: Served, text: str, **options: Any) -> pb.Open:
    message = opening(served, text, is_inline=False, input_key=KEY, **options)
    message.resume.received_tokens = 0
    return message


async def lose(server: CloudServer, t: Talk, num_left: int) -> None:
    t.call.cancel()
    await until(lambda: server._service.num_streams == num_left)


@pytest.mark.parametrize("is_back_before", [True, False])
@pytest.mark.parametrize("follows", [True, False], ids=["chunks follow", "waits for Need"])
def test_request_that_is_looked_up_goes_on_when_its_stream_is_lost(
    served: Served, bundle: Path, runner: FakeRunner, is_back_before: bool, follows: bool
) -> None:
    payload = bytes(528)

    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as new:
            store = slowed(server, "get")
            await new.welcomed("edge")
            async with talk(server.address) as old:
                await old.welcomed("edge")
                message = opening(served, "hi", is_inline=False, input_key=KEY)
                message.inputs[0].follows = follows
                await old.say(open=message)
                await until(lambda: store.num_waiting == 1)
                if is_back_before:
                    await new.say(open=again(served, "hi"))
                    await new.say(ping=pb.Ping())
                    await new.hear("pong")
                await lose(server, old, 1)
            if not is_back_before:
                assert server._service.requests.num_detached == 1
                await new.say(open=again(served, "hi"))
                await new.say(ping=pb.Ping())
                await new.hear("pong")
            store.may_go.set()
            assert (await new.hear("need", "r1")).from_offset == 0
            await new.say(chunk=chunk("r1", 0, payload))
            assert await new.text("r1") == "hi "
            await until(lambda: not num_left(server) and not server._service.requests._adopted)
        assert runner.prepared == ["hi"]

    settle(run())


def test_upload_of_an_edge_that_is_away_is_not_given_up(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, limits=limits(upload_idle_s=0.02)) as server:
            store = slowed(server, "get")
            async with talk(server.address) as old:
                await old.welcomed("edge")
                await old.say(open=opening(served, "hi", is_inline=False, input_key=KEY))
                await until(lambda: store.num_waiting == 1)
                await lose(server, old, 0)
            store.may_go.set()
            await until(lambda: not server._service.requests._adopted)
            (opened,) = server._service.requests._all
            assert opened.uploads is not None
            assert opened.uploads._idle is None

    settle(run())


def test_answer_that_is_computed_goes_on_when_its_stream_is_lost_while_features_are_kept(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            store = slowed(server, "put")
            async with talk(server.address) as old:
                await old.welcomed("edge")
                await old.say(open=opening(served, "one hold two", input_key=KEY))
                await until(lambda: store.num_waiting == 1 and bool(runner.ran))
                await lose(server, old, 0)
            store.may_go.set()
            async with talk(server.address) as new:
                await new.welcomed("edge")
                await new.say(open=again(served, "one hold two"))
                assert (await new.hear("have")).what == pb.Have.WHAT_ANSWER
                runner.release.set()
                assert await new.text("r1") == "one hold two "
            await until(lambda: not num_left(server))
            assert store.num_entries == 3  # the features, the claim, the answer
        assert runner.prepared == ["one hold two"]

    settle(run())


def test_cloud_that_stops_waits_for_no_step_of_a_lost_stream(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            store = slowed(server, "get")
            async with talk(server.address) as old:
                await old.welcomed("edge")
                await old.say(open=opening(served, "hi", is_inline=False, input_key=KEY))
                await until(lambda: store.num_waiting == 1)
                await lose(server, old, 0)
            (reader,) = server._service.requests._adopted
        await until(reader.done)
        assert server._service.requests.num_open == 0

    settle(run())


def test_edge_that_takes_nothing_loses_its_stream(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        bounds = limits(stream_idle_s=0.2)
        async with (
            cloud(served, bundle, runner, limits=bounds) as server,
            grpc.aio.insecure_channel(server.address, _SMALL_WINDOW) as made,
        ):
            t = Talk(pb_grpc.InferenceStub(made).Stream())
            await t.welcomed("edge")
            for number in range(8):
                text = f"{number}" + "x" * 60_000
                await t.say(open=opening(served, text, request_id=f"r{number}"))
            await until(lambda: len(runner.ran) == 8)
            assert server._service.num_streams == 1
            await until(lambda: server._service.num_streams == 0)
            assert server._service._host.quotas.streams() == {("",): 0}
            assert 'streams_ended_total{outcome="unavailable"} 1.0' in server.metrics.exposition()
            # Whoever reads again is told why.
            assert await t.status() == grpc.StatusCode.UNAVAILABLE
            assert "took nothing" in await t.call.details()
            await until(lambda: not server._service._cutting)

    settle(run())
