"""Two tenants of one cloud: neither reads, warms, poisons or finds what is the other's; counts tell, not time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_node.access.identity import Identity
from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeEncodingRunner, FakeRunner, cloud, flights_of, settle, until
from tests.kit.talking import Talk, channel, item_of, opening
from tests.kit.tenants import TokenFile
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

KEY = bytes(range(32))


@dataclass
class Two:
    """A cloud, and a stream of each tenant."""

    server: CloudServer
    acme: Talk
    other: Talk

    @property
    def lookups(self) -> dict[tuple[str, str], int]:
        return dict(self.server._service._host.cache.counts)


@contextlib.asynccontextmanager
async def two(
    served: Served, bundle: Path, runner: Any, tokens: TokenFile, **settings: Any
) -> AsyncIterator[Two]:
    identity = Identity(tokens=tokens.path)
    async with (
        cloud(served, bundle, runner, identity=identity, num_slots=4, **settings) as server,
        stream(server, tokens.tokens["acme"]) as acme,
        stream(server, tokens.tokens["other"]) as other,
    ):
        yield Two(server, acme, other)


@contextlib.asynccontextmanager
async def stream(server: CloudServer, token: str) -> AsyncIterator[Talk]:
    """Of an edge that calls itself the same, whoever it is."""
    async with channel(server.address) as made:
        call = pb_grpc.InferenceStub(made).Stream(metadata=(("authorization", f"Bearer {token}"),))
        talk = Talk(call)
        await talk.say(hello=pb.Hello(protocol_version=1, edge_id="camera"))
        await talk.hear("welcome")
        yield talk
        call.cancel()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.toml", acme={}, other={})


def test_what_one_tenant_asked_is_neither_read_nor_warmed_for_another(
    served: Served, bundle: Path, runner: FakeRunner, tokens: TokenFile
) -> None:
    async def run() -> None:
        async with two(served, bundle, runner, tokens) as t:
            await t.acme.say(open=opening(served, "the same words", request_id="r1", input_key=KEY))
            assert await t.acme.text("r1") == "the same words "
            await t.other.say(
                open=opening(served, "the same words", request_id="r1", input_key=KEY, is_inline=False)
            )
            # The cloud claims to hold nothing: no answer, and no features under that key.
            assert (await t.other.next()).WhichOneof("message") == "need"
            assert t.lookups.get(("claim", "hit"), 0) == 0
            # The very same features do not find the answer, either.
            await t.other.say(open=opening(served, "the same words", request_id="r2", input_key=KEY))
            done = await t.other.hear("done", "r2")
            assert done.cache == pb.CACHE_MISS
            assert runner.ran == ["the same words"] * 2
            assert t.lookups.get(("answer", "hit"), 0) == 0
            # Each finds its own.
            for edge in (t.acme, t.other):
                await edge.say(
                    open=opening(served, "the same words", request_id="r3", input_key=KEY, is_inline=False)
                )
                assert (await edge.hear("done", "r3")).cache == pb.CACHE_ANSWER
            assert runner.ran == ["the same words"] * 2

    settle(run())


def test_a_false_claim_harms_only_who_made_it(
    served: Served, bundle: Path, runner: FakeRunner, tokens: TokenFile
) -> None:
    size = sum(spec.num_bytes for spec in served.manifest.chains[0].boundary(1, 0))
    true, false = bytes(size), b"\1" * size

    async def run() -> None:
        async with two(served, bundle, runner, tokens) as t:
            await t.other.say(open=opening(served, "poison", request_id="r1", input_key=KEY, payload=false))
            await t.other.text("r1")
            await t.acme.say(open=opening(served, "true", request_id="r1", input_key=KEY, payload=true))
            await t.acme.text("r1")
            for edge, prompt in ((t.acme, "acme next"), (t.other, "other next")):
                await edge.say(open=opening(served, prompt, request_id="r2", input_key=KEY, is_inline=False))
                assert (await edge.hear("done", "r2")).cache == pb.CACHE_FEATURES
            assert dict(zip(runner.prepared, runner.payloads, strict=True)) == {
                "poison": false, "true": true, "acme next": true, "other next": false,
            }  # fmt: skip

    settle(run())


def test_equal_questions_of_two_tenants_are_not_one_computation(
    served: Served, bundle: Path, runner: FakeRunner, tokens: TokenFile
) -> None:
    async def run() -> None:
        async with two(served, bundle, runner, tokens) as t:
            for edge in (t.acme, t.other):
                await edge.say(open=opening(served, "hold", request_id="r1"))
            await until(lambda: len(runner.prepared) == 2)
            await t.acme.say(open=opening(served, "hold", request_id="r2"))
            await until(lambda: flights_of(t.server).num_joined == 1)
            runner.release.set()
            assert await t.acme.text("r2") == "hold "
            assert await t.other.text("r1") == "hold "
            assert (len(runner.prepared), flights_of(t.server).num_joined) == (2, 1)

    settle(run())


def test_a_request_id_of_another_tenant_is_not_found(
    served: Served, bundle: Path, runner: FakeRunner, tokens: TokenFile
) -> None:
    def again() -> pb.Open:
        message = opening(served, "mine hold", request_id="r1", is_inline=False)
        message.resume.received_tokens = 0
        return message

    async def run() -> None:
        async with two(served, bundle, runner, tokens) as t:
            await t.acme.say(open=opening(served, "mine hold", request_id="r1"))
            await until(lambda: len(runner.ran) == 1)
            t.acme.call.cancel()
            await until(lambda: t.server._service.requests.num_detached == 1)
            await t.other.say(open=again())
            need = await t.other.next()
            assert (need.WhichOneof("message"), need.need.from_offset) == ("need", 0)
            assert t.server._service.requests.num_detached == 1
            runner.release.set()
            async with stream(t.server, tokens.tokens["acme"]) as back:
                await back.say(open=again())
                assert (await back.next()).WhichOneof("message") == "have"
                assert await back.text("r1") == "mine hold "
            assert len(runner.ran) == 1

    settle(run())


def test_an_index_is_its_tenants_and_so_is_what_it_says_of_its_size(
    served: Served, bundle: Path, tmp_path: Path
) -> None:
    dual = replace(served, manifest=msgspec.structs.replace(served.manifest, shape="dual encoder"))
    tokens = TokenFile(tmp_path / "tokens.toml", acme={}, other={"index_items": 2})

    def asked(axes: list[int], **then: Any) -> pb.Open:
        items = [item_of(dual.manifest.chains[0], payload=bytes([axis]) * 528) for axis in axes]
        message = opening(dual, "", inputs=items)
        message.embed.CopyFrom(pb.Embed(**then))
        return message

    def add(axes: list[int], *names: str) -> pb.Open:
        return asked(axes, add=pb.IndexAdd(index="photos", item_ids=names))

    look = asked([1], search=pb.IndexSearch(index="photos", num_hits=10))

    async def run() -> None:
        settings = {"index_dir": tmp_path / "indexes"}
        async with two(dual, bundle, FakeEncodingRunner(), tokens, **settings) as t:
            await t.acme.say(open=add([1, 2, 3], "a", "b", "c"))
            await t.acme.hear("done")
            await t.other.say(open=look)
            assert "no index 'photos'" in (await t.other.hear("failed")).message
            await t.other.say(open=add([4], "mine"))
            assert (await t.other.hear("embedded")).num_indexed == 1
            await t.other.say(open=look)
            found = await t.other.hear("embedded")
            assert ([hit.item_id for hit in found.hits], found.num_indexed) == (["mine"], 1)
            await t.other.say(open=add([5, 6], "two", "more"))
            failed = await t.other.hear("failed")
            assert failed.code == pb.ERROR_CODE_LIMIT_REACHED
        # After a restart it is so, too.
        async with two(dual, bundle, FakeEncodingRunner(), tokens, **settings) as t:
            await t.acme.say(open=look)
            assert (await t.acme.hear("embedded")).num_indexed == 3
            await t.other.say(open=look)
            assert (await t.other.hear("embedded")).num_indexed == 1

    settle(run())


async def load_of_its_own(edge: Talk, **load: int) -> None:
    """It is told this, and maybe before it that one request waits or runs, and nothing else."""
    while (heard := await edge.hear("load")) != pb.Load(slots=4, **load):
        assert heard in (pb.Load(slots=4, queued=1), pb.Load(slots=4, active=1))


async def said_by_now(edge: Talk) -> list[str | None]:
    """Kinds of messages. All edges are told the load in one go: what one has heard of, another was told before this."""
    await edge.say(ping=pb.Ping())
    kinds = []
    while (kind := (await edge.next()).WhichOneof("message")) != "pong":
        kinds.append(kind)
    return kinds


def test_load_tells_a_tenant_of_its_own_requests_alone(
    served: Served, bundle: Path, runner: FakeRunner, tokens: TokenFile
) -> None:
    async def run() -> None:
        async with two(served, bundle, runner, tokens, load_every_s=0.01) as t:
            await t.acme.say(open=opening(served, "hold", request_id="r1"))
            await load_of_its_own(t.acme, active=1)
            assert "load" not in await said_by_now(t.other)
            # Behind a step that acme holds up, it waits: that much it hears, as it would feel it.
            await t.other.say(open=opening(served, "two words", request_id="r1"))
            await load_of_its_own(t.other, queued=1)
            assert "load" not in await said_by_now(t.acme)
            runner.release.set()
            for edge in (t.acme, t.other):
                await load_of_its_own(edge)

    settle(run())


def test_load_is_not_told_to_an_edge_whose_token_was_revoked(
    served: Served, bundle: Path, runner: FakeRunner, tokens: TokenFile
) -> None:
    async def run() -> None:
        async with two(served, bundle, runner, tokens, load_every_s=0.01) as t:
            await t.acme.say(open=opening(served, "hold", request_id="r1"))
            await load_of_its_own(t.acme, active=1)
            tokens.write(other={})
            watched = t.server._entrance.tokens
            assert watched is not None
            await until(lambda: "acme" not in watched.value.tenants)
            runner.release.set()
            await t.acme.hear("done")
            runner.release.clear()
            await t.other.say(open=opening(served, "hold", request_id="r1"))
            await load_of_its_own(t.other, active=1)
            assert "load" not in await said_by_now(t.acme)
            runner.release.set()

    settle(run())
