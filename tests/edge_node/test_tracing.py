"""What a device tells of a request's time: by the cloud's messages, each milestone once, and the end in any case."""

from __future__ import annotations

import pytest

from edge_node.tracing import UNTRACED, Fact, Milestones, traced
from wire.errors import Overloaded
from wire.v1 import inference_pb2 as pb


class Told:
    """A tracer, and its trace, that keeps what it is told."""

    traceparent = ""

    def __init__(self) -> None:
        self.spans: list[tuple[str, float, float]] = []
        self.ends: list[BaseException | None] = []

    def begin(self, name: str) -> Told:
        return self

    def span(self, name: str, start_s: float, end_s: float, **facts: Fact) -> None:
        self.spans.append((name, start_s, end_s))

    def tell(self, **facts: Fact) -> None: ...

    def end(self, error: BaseException | None = None) -> None:
        self.ends.append(error)


def ack(index: int, received: int) -> pb.Down:
    return pb.Down(ack=pb.Ack(input_index=index, received_bytes=received))


DELTAS = pb.Down(deltas=pb.DeltaBatch())
DONE = pb.Down(done=pb.Done())


@pytest.mark.parametrize(
    ("downs", "expected"),
    [
        (
            [ack(0, 5), ack(0, 10), ack(1, 20), DELTAS, DELTAS, DONE],
            [("upload", 1.0, 4.0), ("first token", 4.0, 5.0), ("answer", 5.0, 7.0)],
        ),
        ([DELTAS, DONE], [("first token", 1.0, 2.0), ("answer", 2.0, 3.0)]),  # the cloud had the answer
        (
            [ack(0, 10), DELTAS, DONE],
            [("first token", 1.0, 3.0), ("answer", 3.0, 4.0)],
        ),  # and the other features
        ([ack(0, 10), ack(1, 20), ack(1, 20), DONE], [("upload", 1.0, 3.0), ("answer", 3.0, 5.0)]),
    ],
)
def test_milestones_follow_one_another(
    downs: list[pb.Down], expected: list[tuple[str, float, float]]
) -> None:
    told = Told()
    milestones = Milestones(told, [10, 20])
    milestones.opened(1.0)
    milestones.opened(1.5)  # sent again, on another stream
    for i, down in enumerate(downs):
        milestones.hear(down, 2.0 + i)
    assert told.spans == expected


def test_trace_ends_once_with_what_was_raised() -> None:
    told, error = Told(), Overloaded("full")
    with pytest.raises(Overloaded), traced(told, "ask"):
        raise error
    with traced(told, "ask"):
        pass
    assert told.ends == [error, None]


def test_nothing_is_told_by_default() -> None:
    with traced(UNTRACED, "ask") as trace:
        trace.span("encode", 0.0, 1.0, split_point=1)
        trace.tell(model="tiny")
        assert trace.traceparent == ""
