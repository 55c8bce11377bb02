"""The deltas of one engine step on one stream go in one message, and each request's stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Finished, FinishReason, Sequence, StepTimes, TextDelta
from cloud_node.asked.served import Bounds, Served
from cloud_node.caching.cache import Cache
from cloud_node.caching.flights import Flights
from cloud_node.streams.host import Host, Hosted
from cloud_node.streams.requests import OpenRequests
from cloud_node.streams.stream import EdgeStream
from tests.kit.clouds import limits, settle, until
from tests.kit.talking import opening
from wire.errors import CleaveError
from wire.v1 import inference_pb2 as pb


class SteppedEngine:
    """Takes sequences; the test says what each step makes."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []

    def check(self, request: Request) -> None: ...

    def submit(self, sequence: Sequence) -> None:
        self.sequences.append(sequence)

    def stop(self, sequence: Sequence, error: CleaveError) -> None:
        sequence.emit(error)

    def step(self, index: int) -> None:
        for sequence in self.sequences:
            sequence.emit(TextDelta(f"{sequence.request.prompt}{index} ", index, 1))

    def finish(self, number: int) -> None:
        self.sequences[number].emit(Finished(FinishReason.LENGTH, 7, 4, StepTimes()))


def test_deltas_of_a_step_go_together_and_a_slow_reader_gets_fewer_messages(served: Served) -> None:
    async def run() -> None:
        engine, cache = SteppedEngine(), Cache(None)
        flights = Flights(engine, cache)  # type: ignore[arg-type]
        host = Host({served.name: Hosted(served, flights)}, Bounds(limits(), 60, 60), "0", cache)

        async def messages() -> AsyncIterator[pb.Up]:
            yield pb.Up(hello=pb.Hello(protocol_version=1))
            for name in "abc":
                yield pb.Up(open=opening(served, name, request_id=name))
            await asyncio.Event().wait()

        downs = EdgeStream(host, OpenRequests(host, 8)).run(messages())
        for kind in ("welcome", "ack", "ack", "ack"):
            assert (await anext(downs)).WhichOneof("message") == kind
        await until(lambda: len(engine.sequences) == 3)

        engine.step(0)
        assert _texts(await anext(downs)) == {"a": "a0 ", "b": "b0 ", "c": "c0 "}
        for index in range(1, 4):
            engine.step(index)
        engine.finish(0)
        engine.sequences[1].emit(TextDelta("b4 ", 4, 1))
        assert _texts(await anext(downs)) == {name: f"{name}1 {name}2 {name}3 " for name in "abc"}
        assert (await anext(downs)).done.request_id == "a"
        assert _texts(await anext(downs)) == {"b": "b4 "}
        await downs.aclose()
        assert flights.num_open == 0

    settle(run())


def _texts(down: pb.Down) -> dict[str, str]:
    texts = {delta.request_id: delta.text for delta in down.deltas.deltas}
    assert len(texts) == len(down.deltas.deltas)
    return texts
