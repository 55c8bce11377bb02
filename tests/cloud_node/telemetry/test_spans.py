"""What a trace tells of a request: its steps in their order, nothing beyond its end, and nothing that a user said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_node.asked.sequence import StepTimes
from cloud_node.asked.served import Served
from cloud_node.asked.trace_context import TraceContext, parse_traceparent
from cloud_node.telemetry.outside import Outside
from cloud_node.telemetry.spans import Ended, Span, request_span
from tests.kit.clouds import SECRET, FakeRunner, cloud, request_of, settle
from tests.kit.talking import opening, talk

_TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def ended(**changes: Any) -> Ended:
    given: dict[str, Any] = {
        "opened_s": 100.0,
        "ready_s": 103.0,
        "ended_s": 110.0,
        "outcome": "done",
        "cache": "miss",
    }
    return Ended(request_of(SECRET), **{**given, **changes})


def laid_out(span: Span) -> list[tuple[str, float, float]]:
    return [(child.name, child.start_s, child.end_s) for child in span.children]


def test_steps_follow_one_another_from_the_open_on() -> None:
    times = StepTimes(
        queue_s=1.0, decode_payload_s=0.5, tail_s=0.5, prefill_s=2.0, decode_s=3.0, total_s=7.0, cache_s=1.0
    )
    span = request_span(ended(times=times))
    assert laid_out(span) == [
        ("cache", 100.0, 101.0), ("upload", 101.0, 103.0), ("queue", 103.0, 104.0), ("decode_payload", 104.0, 104.5),
        ("tail", 104.5, 105.0), ("prefill", 105.0, 107.0), ("decode", 107.0, 110.0),
    ]  # fmt: skip
    assert (span.start_s, span.end_s, span.error) == (100.0, 110.0, "")


def test_step_that_did_not_take_place_has_no_span() -> None:
    """A repeated answer: looked up, and given."""
    assert laid_out(request_span(ended(ready_s=100.0, times=StepTimes(total_s=10.0, cache_s=10.0)))) == [
        ("cache", 100.0, 110.0)
    ]


@pytest.mark.parametrize("step", ["cache_s", "queue_s", "decode_s"])
def test_no_step_ends_after_its_request(step: str) -> None:
    span = request_span(ended(times=StepTimes(**{step: 1000.0})))
    assert all(span.start_s <= child.start_s <= child.end_s <= span.end_s for child in span.children)


def test_request_that_failed_says_with_what() -> None:
    assert request_span(ended(outcome="deadline_exceeded")).error == "deadline_exceeded"


def test_nothing_that_a_user_said_is_in_a_span() -> None:
    assert SECRET not in repr(request_span(ended()))


class Kept:
    """Spans, kept."""

    def __init__(self) -> None:
        self.spans: list[tuple[Span, TraceContext | None]] = []

    def tell(self, ended: Ended) -> None:
        self.spans.append((request_span(ended), ended.request.trace))


@pytest.mark.parametrize("traceparent", [_TRACEPARENT, "", "00-0-0-00", "\n" * 64, "x" * 10_000])
def test_request_is_answered_whatever_its_traceparent_and_traced_where_it_is_one(
    served: Served, bundle: Path, traceparent: str
) -> None:
    kept = Kept()

    async def run() -> None:
        async with (
            cloud(served, bundle, FakeRunner(), Outside(spans=kept)) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            asked = opening(served, "two words")
            asked.traceparent = traceparent
            await t.say(open=asked)
            assert await t.text("r1") == "two words "

    settle(run())
    ((span, parent),) = kept.spans
    assert parent == parse_traceparent(traceparent)
    assert (parent is not None) == (traceparent == _TRACEPARENT)
    facts = span.facts
    assert (facts["cleave.request_id"], facts["gen_ai.request.model"]) == ("r1", "tiny")
    assert (facts["cleave.split_point"], facts["cleave.codec"], facts["cleave.cache"]) == ("1", "raw", "miss")
    assert facts["gen_ai.usage.output_tokens"] == 2
    assert facts["cleave.received_bytes"] == sum(item.total_bytes for item in opening(served, "").inputs)


def test_edge_that_comes_back_may_trace_otherwise(served: Served, bundle: Path) -> None:
    """A resumed Open need not have the trace of the first one."""
    runner = FakeRunner()

    async def run() -> None:
        async with cloud(served, bundle, runner) as server:
            asked = opening(served, "hold on")
            async with talk(server.address) as first:
                await first.welcomed("edge-1")
                await first.say(open=asked)
                await first.hear("deltas")
            asked.resume.received_tokens = 1
            asked.traceparent = _TRACEPARENT
            async with talk(server.address) as second:
                await second.welcomed("edge-1")
                await second.say(open=asked)
                await second.hear("have")
                runner.release.set()
                assert await second.text("r1") == "on "

    settle(run())
