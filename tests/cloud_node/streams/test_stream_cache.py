"""What a stream does with what the cloud has already, over real gRPC: nothing is computed or sent twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud_node.asked.sequence import Sequence
from cloud_node.asked.served import Served
from cloud_node.caching.cache import Cache
from cloud_node.caching.store import MemoryStore
from cloud_node.server import CloudServer
from tests.kit.clouds import FakeRunner, cloud, engine_of, flights_of, num_left, settle
from tests.kit.talking import Talk, chunk, opening, talk
from wire.v1 import inference_pb2 as pb

PAYLOAD = bytes(range(256)) * 2 + bytes(16)  # of split point 1 of the sample manifest, raw
KEY = bytes(range(32))


def asked(served: Served, text: str, request_id: str = "r1", **options: Any) -> pb.Open:
    """An Open whose picture has a key."""
    return opening(served, text, request_id=request_id, **{"payload": PAYLOAD, "input_key": KEY, **options})


async def answered(t: Talk, request_id: str) -> tuple[str, list[str], pb.Done]:
    """A request's text, the kinds of message that it got, and its end."""
    text, kinds = "", []
    while True:
        down = await t.next()
        kind = down.WhichOneof("message")
        assert kind is not None
        if kind == "deltas":
            text += "".join(d.text for d in down.deltas.deltas if d.request_id == request_id)
        elif getattr(down, kind).request_id != request_id:
            continue
        kinds.append(kind)
        assert kind != "failed", down.failed.message
        if kind == "done":
            return text, kinds, down.done


def flights_open(server: CloudServer) -> int:
    return flights_of(server).num_open


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "hash first"])
def test_repeated_question_is_answered_from_the_cache(
    served: Served, bundle: Path, runner: FakeRunner, is_inline: bool
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "what is this"))
            first = await answered(t, "r1")
            assert first[2].cache == pb.CACHE_MISS
            await t.say(open=asked(served, "what is this", "r2", is_inline=is_inline))
            have = await t.hear("have", "r2")
            assert (have.what, have.received_tokens) == (pb.Have.WHAT_ANSWER, 3)
            assert have.received_bytes == (len(PAYLOAD) if is_inline else 0)
            text, kinds, done = await answered(t, "r2")
            assert (text, kinds) == ("what is this ", ["deltas", "done"])
            assert done.cache == pb.CACHE_ANSWER
            assert (done.prompt_tokens, done.generated_tokens) == (7, 3)
            assert done.finish_reason == pb.FINISH_REASON_STOP_TOKEN
            assert done.times.prefill_s == 0 < done.times.total_s
            assert num_left(server) == flights_open(server) == 0
        assert runner.ran == ["what is this"]

    settle(run())


def test_answer_is_found_on_another_stream(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            for _ in range(2):
                async with talk(server.address) as t:
                    await t.welcomed()
                    await t.say(open=asked(served, "what is this"))
                    assert await t.text("r1") == "what is this "
        assert runner.ran == ["what is this"]

    settle(run())


def test_second_question_about_a_picture_needs_no_features(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "one"))
            await t.hear("done", "r1")
            await t.say(open=asked(served, "two", "r2", is_inline=False))
            assert (await t.hear("have", "r2")).what == pb.Have.WHAT_FEATURES
            text, kinds, done = await answered(t, "r2")
            assert (text, kinds, done.cache) == ("two ", ["deltas", "done"], pb.CACHE_FEATURES)
            await t.say(open=asked(served, "two", "r3", is_inline=False))
            assert (await answered(t, "r3"))[2].cache == pb.CACHE_ANSWER
        assert runner.payloads == [PAYLOAD, PAYLOAD]
        assert runner.ran == ["one", "two"]

    settle(run())


def test_cached_payload_is_read_only_bytes(served: Served, bundle: Path, runner: FakeRunner) -> None:
    payloads = []

    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            submit = engine_of(server).submit

            def noting(sequence: Sequence) -> None:
                payloads.extend(sequence.payloads)
                submit(sequence)

            engine_of(server).submit = noting  # type: ignore[method-assign]
            await t.welcomed()
            await t.say(open=asked(served, "one"))
            await t.say(open=asked(served, "two", "r2", is_inline=False))
            await t.hear("done", "r2")
        assert payloads[1].readonly
        assert isinstance(payloads[1].obj, bytes)
        assert payloads[1] == PAYLOAD

    settle(run())


def test_equal_features_under_another_key_are_answered_from_the_cache_after_their_upload(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "what is this"))
            await t.hear("done", "r1")
            other = {"input_key": bytes(32), "is_inline": False}
            await t.say(open=asked(served, "what is this", "r2", **other))
            await t.hear("need", "r2")
            await t.say(chunk=chunk("r2", 0, PAYLOAD))
            text, kinds, done = await answered(t, "r2")
            assert (text, kinds) == ("what is this ", ["ack", "have", "deltas", "done"])
            assert done.cache == pb.CACHE_ANSWER
            await t.say(open=asked(served, "what is this", "r3", **other))
            assert (await answered(t, "r3"))[1] == ["have", "deltas", "done"]
        assert runner.ran == ["what is this"]

    settle(run())


def test_features_without_a_key_are_found_by_their_content_only(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "hi", input_key=b""))
            await t.hear("done", "r1")
            await t.say(open=asked(served, "hi", "r2", is_inline=False))
            await t.hear("need", "r2")
            await t.say(open=asked(served, "hi", "r3", input_key=b""))
            assert (await answered(t, "r3"))[2].cache == pb.CACHE_ANSWER
        assert runner.ran == ["hi"]

    settle(run())


def test_answer_that_is_drawn_without_a_seed_is_made_anew(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            for name, seed in (("a", None), ("b", None), ("c", 5), ("d", 5), ("e", 6)):
                drawn = asked(served, "hi", name)
                drawn.settings.CopyFrom(pb.GenerationSettings(temperature=0.7, seed=seed))
                await t.say(open=drawn)
                done = (await answered(t, name))[2]
                assert (done.cache == pb.CACHE_ANSWER) is (name == "d")
        assert len(runner.ran) == 4

    settle(run())


def test_damaged_upload_is_not_kept(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            wrong = asked(served, "hi", is_inline=False)
            wrong.inputs[0].crc32 += 1
            await t.say(open=wrong)
            await t.say(chunk=chunk("r1", 0, PAYLOAD))
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_CORRUPT
            await t.say(open=asked(served, "hi", "r2", is_inline=False))
            await t.hear("need", "r2")
            assert flights_of(server)._cache.counts["claim", "miss"] == 2
        assert runner.ran == []

    settle(run())


def test_chunks_for_what_the_cache_has_answered_are_dropped(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "one"))
            await t.hear("done", "r1")
            for name, text in (("same", "one"), ("other", "hold")):
                await t.say(open=asked(served, text, name, is_inline=False))
                await t.say(chunk=chunk(name, 0, PAYLOAD[:100]))
                await t.say(chunk=chunk(name, 100, PAYLOAD[100:]))
            runner.release.set()
            await t.hear("done", "other")
            await t.say(ping=pb.Ping(nonce=5))
            assert (await t.next()).pong.nonce == 5
        assert runner.payloads == [PAYLOAD, PAYLOAD]

    settle(run())


def test_cache_of_no_bytes_is_off(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, cache_bytes=0) as server, talk(server.address) as t:
            await t.welcomed()
            for name in ("a", "b"):
                await t.say(open=asked(served, "hi", name))
                _, kinds, done = await answered(t, name)
                assert (kinds[0], done.cache) == ("ack", pb.CACHE_MISS)
        assert runner.ran == ["hi", "hi"]

    settle(run())


class SlowStore(MemoryStore):
    """A store that answers when a test lets it, as one behind a network does."""

    def __init__(self) -> None:
        super().__init__(1 << 20, 60)
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def get(self, key: bytes) -> bytes | None:
        self.is_asked.set()
        await self.may_answer.wait()
        return await super().get(key)


@pytest.mark.parametrize("is_known", [False, True], ids=["unknown", "known"])
def test_deadline_while_the_store_is_asked_ends_the_request_once(
    served: Served, bundle: Path, runner: FakeRunner, is_known: bool
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            store = SlowStore()
            cache: Cache = flights_of(server)._cache
            cache._store = store
            store.may_answer.set()
            await t.welcomed()
            if is_known:
                await t.say(open=asked(served, "hi"))
                await t.hear("done", "r1")
            store.may_answer.clear()
            store.is_asked.clear()
            await t.say(open=asked(served, "hi", "late", deadline_s=0.05))
            await store.is_asked.wait()
            assert (await t.hear("failed", "late")).code == pb.ERROR_CODE_DEADLINE_EXCEEDED
            store.may_answer.set()
            await t.say(ping=pb.Ping(nonce=5))
            assert (await t.next()).pong.nonce == 5
            assert num_left(server) == flights_open(server) == 0
        assert len(runner.ran) == is_known

    settle(run())
