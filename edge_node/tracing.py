"""The seam for traces on the device: what is told of each request while it runs. By default nobody listens.

Who listens is given to the node (`cleave.otlp` sends to an OpenTelemetry collector), so that the edge needs no package
for it. Times are of `time.perf_counter`; no fact holds what a user asked, sent or got.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from wire.v1 import inference_pb2 as pb

T = TypeVar("T")
Fact = str | int | float | bool


class Trace(Protocol):
    """Of one request. Never waits, never raises."""

    @property
    def traceparent(self) -> str:
        """What goes up in its Open, as W3C Trace Context has it; empty: nothing."""
        ...

    def span(self, name: str, start_s: float, end_s: float, **facts: Fact) -> None:
        """A part of it."""
        ...

    def tell(self, **facts: Fact) -> None:
        """Of the whole request."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """It is over, maybe with what it raised."""
        ...


class Tracer(Protocol):
    def begin(self, name: str) -> Trace: ...


class Untraced:
    """A tracer, and a trace, that nobody listens to."""

    traceparent = ""

    def begin(self, name: str) -> Untraced:
        return self

    def span(self, name: str, start_s: float, end_s: float, **facts: Fact) -> None: ...

    def tell(self, **facts: Fact) -> None: ...

    def end(self, error: BaseException | None = None) -> None: ...


UNTRACED = Untraced()


@contextlib.contextmanager
def traced(tracer: Tracer, name: str) -> Iterator[Trace]:
    """A request's trace, from here to the end of the block."""
    trace = tracer.begin(name)
    try:
        yield trace
    except BaseException as error:
        trace.end(error)
        raise
    trace.end()


async def traced_items(
    tracer: Tracer, name: str, make: Callable[[Trace], AsyncGenerator[T, None]]
) -> AsyncGenerator[T, None]:
    """The same around a generator, which is told of its trace; whoever leaves it early ends both."""
    with traced(tracer, name) as trace:
        async with contextlib.aclosing(make(trace)) as items:
            async for item in items:
                yield item


class Milestones:
    """What the cloud's messages say of where a request's time went: the upload, the first token, the rest."""

    def __init__(self, trace: Trace, payload_bytes: Sequence[int]) -> None:
        self._trace = trace
        self._missing = dict(enumerate(payload_bytes))
        self._since_s: float | None = None  # when its Open first went up, and then when it last got further
        self._has_text = False

    def opened(self, now_s: float) -> None:
        """Its Open goes up, maybe once more."""
        self._since_s = now_s if self._since_s is None else self._since_s

    def hear(self, down: pb.Down, now_s: float) -> None:
        match down.WhichOneof("message"):
            case "ack" if self._missing.get(down.ack.input_index) == down.ack.received_bytes:
                del self._missing[down.ack.input_index]
                if not self._missing:
                    self._reach("upload", now_s)
            case "deltas" if not self._has_text:
                self._has_text = True
                self._reach("first token", now_s)
            case "done":
                self._reach("answer", now_s)

    def _reach(self, name: str, now_s: float) -> None:
        assert self._since_s is not None, "an answer before the request"
        self._trace.span(name, self._since_s, now_s)
        self._since_s = now_s
