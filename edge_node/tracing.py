"""The seam for traces on the device: what is told of each request while it runs. By default nobody listens.

Who listens is given to the node (`cleave.otlp` sends to an OpenTelemetry collector), so that the edge needs no package
for it. Times are of `time.perf_counter`; no fact holds what a user asked, sent or got.
"""

from __future__ import annotations

from typing import Protocol

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
