"""Requests of several inputs on a stream: each has its own upload, claim and features; all of them make one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_node.asked.served import Served
from tests.kit.clouds import FakeRunner, cloud, limits, num_left, settle
from tests.kit.talking import Talk, chunk, item_of, opening, talk
from wire.v1 import inference_pb2 as pb

PAYLOADS = [bytes([number]) * 528 for number in range(4)]  # of split point 1 of the sample manifest, raw
KEYS = [bytes([number]) * 32 for number in range(4)]


def asked(served: Served, text: str, numbers: list[int], *inline: int, request_id: str = "r1") -> pb.Open:
    """About those inputs; the payloads of some of them, by their position, ride inside."""
    chain = served.manifest.chains[0]
    items = [
        item_of(chain, payload=PAYLOADS[number], input_key=KEYS[number], is_inline=position in inline)
        for position, number in enumerate(numbers)
    ]
    return opening(served, text, request_id=request_id, inputs=items)


async def heard(t: Talk, kind: str, count: int) -> list[Any]:
    return [await t.hear(kind) for _ in range(count)]


def test_each_input_is_needed_and_acknowledged_by_its_position(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "hi", [0, 1, 2], 1))
            needs = []
            while len(needs) < 2:
                down = await t.next()
                if down.WhichOneof("message") == "need":
                    needs.append(down.need.input_index)
                else:
                    assert (down.ack.input_index, down.ack.received_bytes) == (1, 528)
            assert needs == [0, 2]
            for offset in (0, 264):
                for index in (2, 0):
                    await t.say(
                        chunk=chunk("r1", offset, PAYLOADS[index][offset : offset + 264], input_index=index)
                    )
            acks = [(ack.input_index, ack.received_bytes) for ack in await heard(t, "ack", 2)]
            assert acks == [(2, 528), (0, 528)]
            assert await t.text("r1") == "hi "
            assert num_left(server) == 0
        assert runner.payloads == [b"".join(PAYLOADS[:3])]

    settle(run())


def test_answer_waits_for_the_last_input(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "hi", [0, 1], 0))
            await t.hear("need")
            await t.say(ping=pb.Ping(nonce=1))
            await t.hear("pong")
            assert runner.prepared == []
            await t.say(chunk=chunk("r1", 0, PAYLOADS[1], input_index=1))
            assert await t.text("r1") == "hi "

    settle(run())


@pytest.mark.parametrize("index", [2, 4_000_000_000])
def test_chunk_for_an_input_that_is_none_ends_its_request(served: Served, bundle: Path, index: int) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "hi", [0, 1], 0))
            await t.say(chunk=chunk("r1", 0, b"abc", input_index=index))
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_MALFORMED_MESSAGE
            assert num_left(server) == 0

    settle(run())


def test_one_damaged_input_ends_the_request_and_none_of_it_is_kept(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            wrong = asked(served, "hi", [0, 1], 0, 1)
            wrong.inputs[1].crc32 += 1
            await t.say(open=wrong)
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_CORRUPT
            await t.say(open=asked(served, "hi", [0, 1], request_id="r2"))
            needs = [need.input_index for need in await heard(t, "need", 2)]
            assert needs == [0, 1]
        assert runner.prepared == []

    settle(run())


def test_inputs_that_the_cloud_has_need_not_be_sent_again(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=asked(served, "one", [0, 1], 0, 1))
            await t.hear("done", "r1")
            await t.say(open=asked(served, "two", [2, 1], request_id="r2"))
            have = await t.hear("have", "r2")
            assert (have.what, have.input_index) == (pb.Have.WHAT_FEATURES, 1)
            assert (await t.hear("need", "r2")).input_index == 0
            # Sent before the edge knew: dropped.
            await t.say(chunk=chunk("r2", 0, PAYLOADS[3], input_index=1))
            await t.say(chunk=chunk("r2", 0, PAYLOADS[2], input_index=0))
            assert (await t.hear("done", "r2")).cache == pb.CACHE_FEATURES
            await t.say(open=asked(served, "three", [1, 2, 0], request_id="r3"))
            haves = [have.input_index for have in await heard(t, "have", 3)]
            assert haves == [0, 1, 2]
            assert (await t.hear("done", "r3")).cache == pb.CACHE_FEATURES
        assert runner.payloads == [
            PAYLOADS[0] + PAYLOADS[1], PAYLOADS[2] + PAYLOADS[1], PAYLOADS[1] + PAYLOADS[2] + PAYLOADS[0],
        ]  # fmt: skip

    settle(run())


def test_answer_is_repeated_for_the_same_inputs_in_the_same_order_only(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            for name, numbers, is_repeated in (
                ("a", [0, 1], False),
                ("b", [0, 1], True),
                ("c", [1, 0], False),
                ("d", [0], False),
                ("e", [0, 1, 1], False),
            ):
                await t.say(open=asked(served, "hi", numbers, *range(len(numbers)), request_id=name))
                done = await t.hear("done", name)
                assert (done.cache == pb.CACHE_ANSWER) is is_repeated, name

    settle(run())


def test_upload_of_any_input_keeps_the_request_waiting_and_silence_ends_it(
    served: Served, bundle: Path
) -> None:
    async def run() -> None:
        async with (
            cloud(served, bundle, FakeRunner(), limits=limits(upload_idle_s=0.05)) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            await t.say(open=asked(served, "hi", [0, 1], 0))
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_DEADLINE_EXCEEDED
            assert num_left(server) == 0

    settle(run())
