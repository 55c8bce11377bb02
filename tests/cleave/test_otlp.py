"""Traces to a real collector: of the cloud alone; one that is down, hangs or is none costs spans and nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from cleave.otlp import CLOSE_S, OtlpTraces, otlp_traces
from cloud_node.asked.served import Served
from cloud_node.asked.trace_context import TraceContext, parse_traceparent
from cloud_node.telemetry.outside import Outside
from cloud_node.telemetry.spans import Span
from edge_node.tracing import Tracer
from tests.kit.clouds import FakeRunner, cloud, served_from, settle
from tests.kit.collector import attributes, collector
from tests.kit.talking import opening, talk
from wire.errors import BadInput, Overloaded

_PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
_SPAN = Span("request", 1.0, 2.0, children=(Span("queue", 1.0, 1.5),))


@pytest.fixture
def served(tiny_bundle: Path) -> Served:
    return served_from(tiny_bundle)


def a_free_address() -> str:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{made.getsockname()[1]}"


def test_span_of_the_cloud_is_a_child_of_the_edges() -> None:
    began_ns = time.time_ns()
    with collector() as kept:
        with otlp_traces(kept.address, "cleave-cloud") as traces:
            now_s = time.monotonic()
            inside = Span("queue", now_s, now_s + 0.5)
            traces.export(
                Span("request", now_s, now_s + 1.0, {"cleave.cache": "miss"}, (inside,), "overloaded"),
                _PARENT,
            )
        found = {span.name: span for service, span in kept.wait_for(2) if service == "cleave-cloud"}
    request, queue = found["request"], found["queue"]
    assert {span.trace_id.hex() for span in found.values()} == {_PARENT.trace_id}
    assert request.parent_span_id.hex() == _PARENT.span_id
    assert queue.parent_span_id == request.span_id
    assert request.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert request.end_time_unix_nano - request.start_time_unix_nano == pytest.approx(1e9, abs=1e5)
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == pytest.approx(5e8, abs=1e5)
    assert began_ns - 1e9 < request.start_time_unix_nano < time.time_ns() + 1e9
    assert request.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert attributes(request) == {"cleave.cache": "miss", "error.type": "overloaded"}


def test_request_that_its_edge_does_not_sample_is_not_sent() -> None:
    with collector() as kept:
        with otlp_traces(kept.address, "cleave-cloud") as traces:
            traces.export(_SPAN, TraceContext(_PARENT.trace_id, _PARENT.span_id, False))
            traces.export(_SPAN, None)
        spans = kept.wait_for(2)
    assert len(spans) == 2
    assert _PARENT.trace_id not in {span.trace_id.hex() for _, span in spans}


def test_span_of_the_edge_gives_what_the_cloud_understands() -> None:
    with collector() as kept:
        with otlp_traces(kept.address, "cleave-edge") as traces:
            tracer: Tracer = traces
            trace = tracer.begin("ask")
            parent = parse_traceparent(trace.traceparent)
            now_s = time.perf_counter()
            trace.span("encode", now_s - 0.25, now_s, split_point=3)
            trace.tell(model="tiny")
            trace.end(Overloaded("full"))
        found = {span.name: span for _, span in kept.wait_for(2)}
    ask, encode = found["ask"], found["encode"]
    assert parent == TraceContext(ask.trace_id.hex(), ask.span_id.hex(), True)
    assert ask.kind == trace_pb2.Span.SPAN_KIND_CLIENT
    assert encode.parent_span_id == ask.span_id
    assert encode.end_time_unix_nano - encode.start_time_unix_nano == pytest.approx(25e7, abs=1e5)
    assert attributes(encode) == {"cleave.split_point": 3}
    assert attributes(ask) == {"cleave.model": "tiny", "error.type": "overloaded"}


def answered_in_s(served: Served, bundle: Path, traces: OtlpTraces, count: int) -> float:
    """How long a cloud takes for so many requests while it traces them."""

    async def run() -> float:
        outside = Outside(spans=traces)
        async with (
            cloud(served, bundle, FakeRunner(), outside, cache_bytes=0) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            began_s = time.monotonic()
            for i in range(count):
                await t.say(open=opening(served, "hi", request_id=f"r{i}"))
                assert await t.text(f"r{i}") == "hi "
            return time.monotonic() - began_s

    return settle(run())


def test_collector_that_is_down_costs_only_spans(
    served: Served, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    traces = OtlpTraces(a_free_address(), "cleave-cloud")
    took_s = answered_in_s(served, tiny_bundle, traces, 20)
    began_s = time.monotonic()
    traces.close()
    assert time.monotonic() - began_s < CLOSE_S + 1
    assert took_s < 5


@pytest.mark.slow
def test_collector_that_hangs_costs_only_spans_and_they_are_bounded(
    served: Served, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    with collector() as kept:
        kept.hanging.set()
        traces = OtlpTraces(kept.address, "cleave-cloud")
        for _ in range(16):  # a whole batch, with its children
            traces.export(_SPAN, _PARENT)
        assert kept.asked.wait(10)
        assert answered_in_s(served, tiny_bundle, traces, 20) < 5
        began_s = time.monotonic()
        for _ in range(2000):
            traces.export(_SPAN, _PARENT)
        assert time.monotonic() - began_s < 5
        kept.go_on()
        traces.close()
        # The batch that was on its way, and a queue: what came later was dropped, or what was there made room.
        assert 64 <= len(kept.wait_for(64)) <= 32 + 64


def test_collector_that_hangs_holds_up_the_end_no_longer_than_stated() -> None:
    with collector() as kept:
        kept.hanging.set()
        traces = OtlpTraces(kept.address, "cleave-edge")
        traces.begin("ask").end()
        began_s = time.monotonic()
        traces.close()
        assert time.monotonic() - began_s < CLOSE_S + 1


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://127.0.0.1", "http://", "collector"])
def test_what_is_no_endpoint_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(BadInput, match="is no OTLP endpoint; give http://host:port"):
        OtlpTraces(endpoint, "cleave-cloud")


def test_edge_imports_nothing_of_opentelemetry_unless_asked() -> None:
    program = (
        "import sys, edge_node.blocking, cleave.cli, cleave.asking, cleave.listening, cleave.retrieval\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "[]", ended.stderr
