"""One request, traced from the device through the cloud, by a real collector: one trace, and its times add up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from cleave import EdgeNode
from cleave.otlp import otlp_traces
from cleave.processes import cloud_process
from cloud_node.asked.served import Served
from cloud_node.telemetry.outside import Outside
from tests.kit.clouds import SECRET, FakeRunner, cloud_thread, served_from
from tests.kit.collector import Collector, attributes, collector
from tests.kit.commands import cleave
from tests.kit.pictures import textured
from wire.errors import ModelFailed

Spans = Mapping[tuple[str, str], trace_pb2.Span]  # by service and name

_STEPS = ("queue", "decode_payload", "tail", "prefill", "decode")


def seconds(span: trace_pb2.Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def by_name(kept: Collector, count: int) -> Spans:
    """Each span is there once."""
    spans = kept.wait_for(count)
    found = {(service, span.name): span for service, span in spans}
    assert len(found) == len(spans), [span.name for _, span in spans]
    return found


def require_one_tree(found: Spans) -> None:
    """One trace: the edge's spans in its request's, the cloud's in its own, and that in the edge's."""
    ask, request = found["cleave-edge", "ask"], found["cleave-cloud", "request"]
    assert {span.trace_id for span in found.values()} == {ask.trace_id}
    assert not ask.parent_span_id
    assert request.parent_span_id == ask.span_id
    for (service, name), span in found.items():
        if name not in ("ask", "request"):
            assert span.parent_span_id == (ask if service == "cleave-edge" else request).span_id, name


def require_times_add_up(found: Spans) -> None:
    """Nothing is longer than what it is in, and what the edge waits for is what the cloud does."""
    ask, request = found["cleave-edge", "ask"], found["cleave-cloud", "request"]
    children = {
        service: [
            span for (of, name), span in found.items() if of == service and name not in ("ask", "request")
        ]
        for service in ("cleave-edge", "cleave-cloud")
    }
    assert sum(map(seconds, children["cleave-edge"])) <= seconds(ask)
    assert sum(map(seconds, children["cleave-cloud"])) <= seconds(request)
    waited = [seconds(found["cleave-edge", name]) for name in ("upload", "first token", "answer")]
    # Both clocks are this machine's. The cloud's request lies within what its edge waits for, but for its last message.
    assert seconds(request) <= sum(waited) + 0.05
    assert {name for service, name in found if service == "cleave-cloud"} == {
        "request",
        "upload",
        "cache",
        *_STEPS,
    }
    assert sum(map(seconds, children["cleave-cloud"])) >= 0.5 * seconds(request)


@pytest.mark.slow
def test_commands_trace_a_request_from_the_device_through_the_cloud(
    tiny_checkpoint: Path, tiny_bundle: Path, cache: Path, pictures: list[Path]
) -> None:
    with collector() as kept:
        with cloud_process(str(tiny_checkpoint), tiny_bundle, "--otlp", kept.address) as (address, _):
            asked = (
                "ask",
                SECRET,
                "--cloud",
                address,
                "--image",
                pictures[0],
                "--split",
                2,
                "--codec",
                "raw",
            )
            tokens = ("--max-tokens", 64, "--min-tokens", 64)
            ended = cleave(*asked, *tokens, "--otlp", kept.address, cache=cache)
            assert ended.code == 0, ended.err
        # Both processes have ended, and each sent what it had before.
        found = by_name(kept, 14)
    require_one_tree(found)
    require_times_add_up(found)
    assert {name for service, name in found if service == "cleave-edge"} == {
        "ask", "encode", "codec", "connect", "upload", "first token", "answer"
    }  # fmt: skip
    facts = attributes(found["cleave-cloud", "request"])
    assert facts["cleave.request_id"] == attributes(found["cleave-edge", "ask"])["cleave.request_id"]
    assert (facts["cleave.split_point"], facts["cleave.codec"], facts["cleave.cache"]) == ("2", "raw", "miss")
    assert facts["gen_ai.usage.output_tokens"] == 64
    told = repr(list(found.values()))
    for secret in (SECRET, pictures[0].name, str(cache)):
        assert secret not in told


@pytest.fixture
def served(tiny_bundle: Path) -> Served:
    return served_from(tiny_bundle)


def test_request_that_fails_in_the_model_is_an_error_on_both_sides(
    tiny_bundle: Path, served: Served, cache: Path
) -> None:
    with (
        collector() as kept,
        otlp_traces(kept.address, "cleave-cloud") as of_cloud,
        cloud_thread(served, tiny_bundle, FakeRunner(), outside=Outside(spans=of_cloud)) as node,
        otlp_traces(kept.address, "cleave-edge") as of_edge,
        EdgeNode(node.address, bundles=cache / "bundles", tracer=of_edge) as edge,
    ):
        with pytest.raises(ModelFailed):
            edge.ask(f"{SECRET} fail", textured(60, 40), split=1).text()
        of_edge.close()
        of_cloud.close()
        found = by_name(kept, 5)
    require_one_tree(found)
    for service, name in (("cleave-edge", "ask"), ("cleave-cloud", "request")):
        span = found[service, name]
        assert span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "model_failed"
        assert SECRET not in str(span)


def test_answer_that_is_left_early_is_cancelled_on_both_sides(
    tiny_bundle: Path, served: Served, cache: Path
) -> None:
    runner = FakeRunner()
    with (
        collector() as kept,
        otlp_traces(kept.address, "cleave-cloud") as of_cloud,
        cloud_thread(served, tiny_bundle, runner, outside=Outside(spans=of_cloud)) as node,
        otlp_traces(kept.address, "cleave-edge") as of_edge,
        EdgeNode(node.address, bundles=cache / "bundles", tracer=of_edge) as edge,
    ):
        for _ in edge.ask("a hold", textured(60, 40), split=1):
            break
        node.require_idle()
        of_edge.close()
        of_cloud.close()
        found = by_name(kept, 5)
    require_one_tree(found)
    assert attributes(found["cleave-edge", "ask"])["error.type"] == "cancelled"
    assert attributes(found["cleave-cloud", "request"])["error.type"] == "cancelled"
