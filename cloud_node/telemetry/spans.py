"""What a trace tells of a request: a span for it, with one in it for each step. Pure; who sends them is `Spans`.

They are made of the times that are measured anyway, once the request has ended: nothing is measured twice, and a cloud
that traces nothing pays nothing. No attribute holds what a user asked, sent or got.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cloud_node.asked.request import Request
from cloud_node.asked.sequence import StepTimes

Fact = str | int | float | bool

_STEPS = ("queue", "decode_payload", "tail", "prefill", "decode")  # in the order that they have


@dataclass(frozen=True, slots=True)
class Span:
    """Times are of the monotonic clock."""

    name: str
    start_s: float
    end_s: float
    facts: Mapping[str, Fact] = field(default_factory=dict)
    children: tuple[Span, ...] = ()
    error: str = ""  # the error's code in lower case


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended: when, on the monotonic clock, and how."""

    request: Request
    opened_s: float
    ready_s: float  # when its payloads were whole
    ended_s: float
    outcome: str  # "done", or the error's code in lower case
    cache: str
    times: StepTimes = field(default_factory=StepTimes)
    received_bytes: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


class Spans(Protocol):
    """Who traces. Called on the loop: never waits, never raises, drops what it cannot take."""

    def tell(self, ended: Ended) -> None: ...


class NoSpans:
    """Of a cloud that traces nothing."""

    def tell(self, ended: Ended) -> None: ...


def request_span(ended: Ended) -> Span:
    """The span of a request, from its Open to its end."""
    return Span(
        "request",
        ended.opened_s,
        ended.ended_s,
        _facts(ended),
        tuple(_steps(ended)),
        error="" if ended.outcome == "done" else ended.outcome,
    )


def _facts(ended: Ended) -> dict[str, Fact]:
    request = ended.request
    facts: dict[str, Fact] = {
        "cleave.request_id": request.request_id,
        "gen_ai.request.model": request.model,
        "cleave.split_point": ",".join(str(item.split_point) for item in request.inputs),
        "cleave.codec": ",".join(item.codec for item in request.inputs),
        "cleave.received_bytes": ended.received_bytes,
        "cleave.outcome": ended.outcome,
        "cleave.cache": ended.cache,
        "gen_ai.usage.input_tokens": ended.prompt_tokens,
        "gen_ai.usage.output_tokens": ended.generated_tokens,
    }
    if request.tenant.name:
        facts["cleave.tenant"] = request.tenant.name
    return facts


def _steps(ended: Ended) -> Iterator[Span]:
    """One behind the other, none of them beyond the request. What was looked up comes first, at the Open."""
    at_s = ended.opened_s
    if ended.times.cache_s > 0:
        yield Span("cache", at_s, at_s := min(at_s + ended.times.cache_s, ended.ended_s))
    if ended.ready_s > at_s:
        yield Span("upload", at_s, at_s := min(ended.ready_s, ended.ended_s))
    for step in _STEPS:
        seconds = getattr(ended.times, f"{step}_s")
        if seconds > 0:
            yield Span(step, at_s, at_s := min(at_s + seconds, ended.ended_s))
