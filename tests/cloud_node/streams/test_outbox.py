"""The outbox: deltas go together, and nothing overtakes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloud_node.asked.sequence import TextDelta
from cloud_node.streams import outbox as outbox_module
from cloud_node.streams.outbox import Outbox
from wire.v1 import inference_pb2 as pb


def drained(fill: Callable[[Outbox], None], *, makes_batches: bool = False) -> list[pb.Down]:
    async def run() -> list[pb.Down]:
        outbox = Outbox()
        outbox.makes_batches = makes_batches
        fill(outbox)
        outbox.end()
        return [down async for down in outbox.messages()]

    return asyncio.run(run())


def done(request_id: str) -> pb.Down:
    return pb.Down(done=pb.Done(request_id=request_id))


def told(downs: list[pb.Down]) -> list[object]:
    return [
        [(d.request_id, d.text, d.token_index, d.num_tokens) for d in down.deltas.deltas]
        if down.WhichOneof("message") == "deltas"
        else (down.WhichOneof("message"), down.done.request_id)
        for down in downs
    ]


def test_deltas_of_one_step_go_in_one_message() -> None:
    def fill(outbox: Outbox) -> None:
        for name in "abc":
            outbox.put_delta(name, TextDelta(f"{name}!", 4, 1))

    assert told(drained(fill)) == [[("a", "a!", 4, 1), ("b", "b!", 4, 1), ("c", "c!", 4, 1)]]


def test_reader_that_is_slow_gets_one_delta_per_request_with_all_its_text() -> None:
    def fill(outbox: Outbox) -> None:
        for step in range(3):
            outbox.put_delta("a", TextDelta(f"a{step} ", step, 1))
            outbox.put_delta("b", TextDelta(f"b{step} ", 2 * step, 2))

    assert told(drained(fill)) == [[("a", "a0 a1 a2 ", 0, 3), ("b", "b0 b1 b2 ", 0, 6)]]


def test_delta_never_moves_before_or_behind_another_message() -> None:
    def fill(outbox: Outbox) -> None:
        outbox.put_delta("a", TextDelta("1", 0, 1))
        outbox.put_delta("b", TextDelta("2", 0, 1))
        outbox.put(done("a"))
        outbox.put_delta("b", TextDelta("3", 1, 1))
        outbox.put(done("b"))
        outbox.put_delta("a", TextDelta("another with this id", 0, 1))

    (batch,) = drained(fill, makes_batches=True)
    assert told(list(batch.batch.downs)) == told(drained(fill))
    assert told(drained(fill)) == [
        [("a", "1", 0, 1), ("b", "2", 0, 1)],
        ("done", "a"),
        [("b", "3", 1, 1)],
        ("done", "b"),
        [("a", "another with this id", 0, 1)],
    ]


def test_message_that_was_taken_changes_no_more() -> None:
    async def run() -> None:
        outbox = Outbox()
        outbox.put_delta("a", TextDelta("1", 0, 1))
        messages = outbox.messages()
        first = await anext(messages)
        outbox.put_delta("a", TextDelta("2", 1, 1))
        second = await anext(messages)
        assert told([first, second]) == [[("a", "1", 0, 1)], [("a", "2", 1, 1)]]
        outbox.put(done("a"))
        outbox.put_delta("b", TextDelta("3", 0, 1))
        assert told([await anext(messages)]) == [("done", "a")]
        outbox.put_delta("b", TextDelta("4", 1, 1))
        outbox.end()
        assert told([down async for down in messages]) == [[("b", "34", 0, 2)]]

    asyncio.run(run())


def test_batch_is_bounded() -> None:
    text = "x" * (outbox_module.MAX_BATCH_CHARS // 2)

    def fill(outbox: Outbox) -> None:
        for index in range(6):
            outbox.put_delta("a", TextDelta(text, index, 1))

    assert [batch[0][2:] for batch in told(drained(fill))] == [(0, 2), (2, 2), (4, 2)]  # type: ignore[index]


def test_what_is_put_after_the_end_is_not_sent() -> None:
    def fill(outbox: Outbox) -> None:
        outbox.put(done("a"))
        outbox.end()
        outbox.put(done("b"))
        outbox.put_delta("c", TextDelta("late", 0, 1))

    assert told(drained(fill)) == [("done", "a")]


def test_tokens_that_come_fast_share_a_message_and_the_first_goes_at_once() -> None:
    async def run() -> None:
        outbox = Outbox(deltas_every_s=3600)
        messages = outbox.messages()
        outbox.put_delta("a", TextDelta("a0", 0, 1))
        assert told([await anext(messages)]) == [[("a", "a0", 0, 1)]]
        waiting = asyncio.ensure_future(anext(messages))
        for index in (1, 2):
            outbox.put_delta("a", TextDelta(f"a{index}", index, 1))
            await asyncio.sleep(0)
        assert not waiting.done()
        outbox.put_delta("b", TextDelta("b0", 0, 1))
        assert told([await waiting]) == [[("a", "a1a2", 1, 2), ("b", "b0", 0, 1)]]

    asyncio.run(run())


def test_end_of_an_answer_does_not_wait_for_more_tokens() -> None:
    async def run() -> None:
        outbox = Outbox(deltas_every_s=3600)
        messages = outbox.messages()
        outbox.put_delta("a", TextDelta("a0", 0, 1))
        await anext(messages)
        waiting = asyncio.ensure_future(anext(messages))
        outbox.put_delta("a", TextDelta("a1", 1, 1))
        await asyncio.sleep(0)
        outbox.put(done("a"))
        assert told([await waiting, await anext(messages)]) == [[("a", "a1", 1, 1)], ("done", "a")]

    asyncio.run(run())


def test_tokens_go_when_it_is_time() -> None:
    async def run() -> None:
        outbox = Outbox(deltas_every_s=0.001)
        messages = outbox.messages()
        for index in range(3):
            outbox.put_delta("a", TextDelta("a", index, 1))
            assert told([await anext(messages)]) == [[("a", "a", index, 1)]]

    asyncio.run(run())


def test_messages_that_wait_go_together_within_bounds_for_an_edge_that_reads_it_so() -> None:
    long = "x" * (outbox_module.MAX_TOGETHER_BYTES // 3)

    def fill(outbox: Outbox) -> None:
        for _ in range(outbox_module.MAX_TOGETHER + 1):
            outbox.put(done("a"))
        for _ in range(4):
            outbox.put(pb.Down(failed=pb.Failed(message=long)))

    first, second, third = drained(fill, makes_batches=True)
    assert len(first.batch.downs) == outbox_module.MAX_TOGETHER
    assert [down.WhichOneof("message") for down in second.batch.downs] == ["done", "failed", "failed"]
    assert len(third.batch.downs) == 2
    assert all(down.ByteSize() < 2 * outbox_module.MAX_TOGETHER_BYTES for down in (first, second, third))
    assert not any(down.HasField("batch") for down in drained(fill))


def test_what_is_not_urgent_waits_for_what_is_and_goes_by_itself_in_the_end() -> None:
    async def run() -> None:
        outbox = Outbox()
        outbox.makes_batches = True
        messages = outbox.messages()
        outbox.put(pb.Down(ack=pb.Ack(request_id="a")), is_urgent=False)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.put(done("a"))
        assert [down.WhichOneof("message") for down in (await waiting).batch.downs] == ["ack", "done"]
        outbox.put(pb.Down(ack=pb.Ack(request_id="b")), is_urgent=False)
        assert (await anext(messages)).ack.request_id == "b"

    asyncio.run(run())
