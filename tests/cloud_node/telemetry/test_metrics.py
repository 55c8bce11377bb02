"""The metrics: every name is documented, every call counts what it says, and both ways of asking give the same."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_node.access.callers import Callers
from cloud_node.access.quotas import Quotas
from cloud_node.asked.sequence import StepTimes
from cloud_node.asked.served import Served
from cloud_node.asked.tenants import Tenant, TenantLimits
from cloud_node.telemetry.metrics import Build, Metrics
from cloud_node.telemetry.tenant_metrics import watch_tenants
from cloud_node.telemetry.watched import Watch
from edge_node.link import CloudLink
from tests.kit.clouds import FakeRunner, cloud, num_left, settle, until
from tests.kit.talking import opening, talk
from wire.errors import LimitReached
from wire.v1 import inference_pb2 as pb

_DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
_BY_STORE = {"cache_bytes", "cache_entries", "cache_evictions"}
_BY_MODEL = {
    "requests_queued", "slots", "slots_used", "sequences_decoding", "sequences_prefilling", "prefix_bytes",
    "prefix_entries", "prefix_hits",
}  # fmt: skip


class Door:
    """Somebody came without credentials."""

    certificate_expires_s = 1e9

    def __init__(self) -> None:
        self.callers = Callers(None)
        self.callers.denied["nothing",] += 1


def busy_quotas() -> Quotas:
    """A tenant that has used, and reached, its limits."""
    quotas, tenant = Quotas(), Tenant("acme", limits=TenantLimits(requests_per_s=1.0))
    quotas.admit(tenant, 0.0)
    with pytest.raises(LimitReached):
        quotas.admit(tenant, 0.0)
    return quotas


def everything() -> Metrics:
    """Metrics in which every family has a sample."""
    metrics = Metrics(Build("0", "tiny", "cpu", "float32"))
    metrics.request_received()
    metrics.request_ended("done", "miss")
    metrics.answered(StepTimes(0.1, 0.2, 0.3, 0.4, 0.5, 1.5, 0.01), 7, 6, 0.9)
    metrics.tail_batch(3, 0.25)
    metrics.prefill_chunk(5, 0.125, 2)
    metrics.decode_step(4, 0.002)
    metrics.bytes_received(1000)
    metrics.bytes_sent(10)
    watch_tenants(metrics, busy_quotas(), Door())
    metrics.request_refused("overloaded")
    metrics.request_resumed(is_found=True)
    metrics.request_resumed(is_found=False)
    metrics.stream_ended("ok")
    metrics.go_away_said()
    metrics.loop_lag(0.003)
    for name in get_args(Watch):
        if name in _BY_STORE:
            metrics.watch(name, lambda: {("memory",): 1})
        elif name == "redis_troubles":
            metrics.watch(name, lambda: {("timeout",): 1})
        elif name == "cache_lookups":
            metrics.watch(name, lambda: {("answer", "hit"): 1})
        elif name in _BY_MODEL:
            metrics.watch(name, lambda: {("tiny",): 1})
        else:
            metrics.watch(name, lambda: 1)
    return metrics


def samples(metrics: Metrics | str) -> dict[str, float]:
    """By name with labels, as in the exposition."""
    text = metrics if isinstance(metrics, str) else metrics.exposition()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def at_rest(exposition: str) -> dict[str, float]:
    """Those samples that stay where nobody asks anything."""
    moving = ("process_", "cleave_loop_lag")
    return {name: value for name, value in samples(exposition).items() if not name.startswith(moving)}


def documented() -> dict[str, tuple[str, str, set[str]]]:
    """Name to type, unit and labels."""
    rows = re.findall(
        r"^\| `((?:cleave|process)_\w+)` \| (\w+) \| ([\w-]*) ?\| ([^|]*)\|", _DOCS.read_text(), re.MULTILINE
    )
    return {name: (kind, unit, set(re.findall(r"`(\w+)`", labels))) for name, kind, unit, labels in rows}


def test_every_exported_name_is_documented_and_every_documented_one_exported() -> None:
    exported: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(everything().exposition()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = (family.type, labels)
    assert exported == {name: (kind, labels) for name, (kind, _, labels) in documented().items()}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus' own tool is not installed")
def test_prometheus_own_tool_finds_nothing_to_say_of_the_exposition() -> None:
    def check(exposition: str) -> tuple[int, str]:
        command = ["promtool", "check", "metrics"]
        ended = subprocess.run(command, input=exposition, capture_output=True, text=True, timeout=30)
        return ended.returncode, ended.stdout + ended.stderr

    assert check(everything().exposition()) == (0, "")
    assert check("# TYPE cleave_things counter\ncleave_things 1\n")[0] != 0, "it finds nothing at all"


def test_names_hold_their_unit_and_counters_end_in_total() -> None:
    for name, (kind, unit, _) in documented().items():
        assert name.endswith("_total") == (kind == "counter"), name
        base = name.removesuffix("_total")
        assert base.endswith("_seconds") == (unit == "seconds"), name
        assert base.endswith("_bytes") == (unit == "bytes"), name


def test_every_call_is_counted() -> None:
    found = samples(everything())
    expected = {
        "cleave_requests_received_total": 1,
        'cleave_requests_ended_total{cache="miss",outcome="done"}': 1,
        "cleave_answer_prompt_tokens_total": 7,
        "cleave_answer_tokens_total": 6,
        'cleave_requests_refused_total{reason="overloaded"}': 1,
        'cleave_requests_resumed_total{outcome="found"}': 1,
        'cleave_requests_resumed_total{outcome="forgotten"}': 1,
        'cleave_streams_ended_total{outcome="ok"}': 1,
        "cleave_go_aways_total": 1,
        "cleave_loop_lag_seconds_sum": 0.003,
        'cleave_request_step_seconds_sum{step="cache"}': 0.01,
        'cleave_request_step_seconds_sum{step="queue"}': 0.1,
        'cleave_request_step_seconds_sum{step="decode_payload"}': 0.2,
        'cleave_request_step_seconds_sum{step="tail"}': 0.3,
        'cleave_request_step_seconds_sum{step="prefill"}': 0.4,
        'cleave_request_step_seconds_sum{step="decode"}': 0.5,
        "cleave_request_seconds_sum": 1.5,
        "cleave_ttft_seconds_sum": 0.9,
        "cleave_tpot_seconds_sum": 0.1,
        "cleave_tail_batch_size_sum": 3,
        "cleave_tail_batch_seconds_sum": 0.25,
        "cleave_prefill_chunk_seconds_sum": 0.125,
        "cleave_prefill_tokens_total": 5,
        "cleave_prefill_reused_tokens_total": 2,
        "cleave_decode_batch_size_sum": 4,
        "cleave_decode_step_seconds_sum": 0.002,
        "cleave_decode_tokens_total": 4,
        "cleave_payload_received_bytes_total": 1000,
        "cleave_sent_bytes_total": 10,
        'cleave_build_info{device="cpu",dtype="float32",model="tiny",version="0"}': 1,
    }
    assert {name: found[name] for name in expected} == expected


def test_step_that_did_not_take_place_is_not_observed() -> None:
    """A repeated answer: no tail, no first token of its own, and one token has no next one."""
    metrics = Metrics()
    metrics.answered(StepTimes(total_s=0.001), 7, 1, None)
    found = samples(metrics)
    counts = {name: value for name, value in found.items() if "_seconds_count" in name and value}
    assert counts == {"cleave_request_seconds_count": 1}


def test_no_series_tells_when_another_was_created() -> None:
    assert "_created" not in everything().exposition()


def test_clouds_of_one_process_share_no_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.decode_step(4, 0.002)
    assert samples(one)["cleave_decode_tokens_total"] == 4
    assert samples(other)["cleave_decode_tokens_total"] == 0


def test_watched_number_is_read_when_asked_for() -> None:
    metrics, queue = Metrics(), [1, 2]
    assert "cleave_streams_open" not in samples(metrics)
    metrics.watch("streams_open", lambda: len(queue))
    assert samples(metrics)["cleave_streams_open"] == 2
    queue.clear()
    assert samples(metrics)["cleave_streams_open"] == 0


def test_call_and_http_give_the_same_and_end_with_the_server(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner(), metrics_listen="127.0.0.1:0", num_slots=3) as server:
            link = CloudLink(server.address)
            said = await link.metrics()
            called = samples(said)
            await link.close()
            assert server.metrics_address.startswith("127.0.0.1:")
            scraped = await asyncio.to_thread(_get, f"http://{server.metrics_address}/metrics")
            assert at_rest(scraped) == at_rest(said)
            assert called['cleave_slots{model="tiny"}'] == 3
            assert called['cleave_slots_used{model="tiny"}'] == 0
            assert called['cleave_cache_entries{store="memory"}'] == 0
            assert any(name.startswith("cleave_build_info{") and 'model="tiny"' in name for name in called)
        with pytest.raises(OSError):
            await asyncio.to_thread(_get, f"http://{server.metrics_address}/metrics")

    settle(run())


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return str(reply.read().decode())


def test_open_streams_and_requests_are_seen(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner(), num_slots=2) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "a hold"))
            await t.hear("deltas")
            found = samples(server.metrics)
            assert (found["cleave_streams_open"], found["cleave_requests_open"]) == (1, 1)
            assert (found['cleave_slots{model="tiny"}'], found['cleave_slots_used{model="tiny"}']) == (2, 1)
            assert found['cleave_sequences_decoding{model="tiny"}'] == 1
            t.call.cancel()
            await until(lambda: not num_left(server) and not server._service.num_streams)
            found = samples(server.metrics)
            assert (found["cleave_streams_open"], found["cleave_requests_open"]) == (0, 0)
            assert found['cleave_slots_used{model="tiny"}'] == 0

    settle(run())


def test_requests_and_bytes_of_a_stream_are_counted(served: Served, bundle: Path) -> None:
    """One that is done, one that fails, one that is repeated from the cache, and one that its edge cancels."""

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner(), num_slots=2) as server, talk(server.address) as t:
            await t.welcomed()
            first = opening(served, "two words", request_id="r1")
            await t.say(open=first)
            await t.hear("done", "r1")
            await t.say(open=opening(served, " ", request_id="r2"))
            await t.hear("failed", "r2")
            await t.say(open=opening(served, "two words", request_id="r3"))
            await t.hear("done", "r3")
            await t.say(open=opening(served, "a hold", request_id="r4"))
            await t.hear("deltas")
            await t.say(cancel=pb.Cancel(request_id="r4"))
            await t.hear("failed", "r4")
            found = samples(server.metrics)
            assert found["cleave_requests_received_total"] == 4
            assert {name: value for name, value in found.items() if "requests_ended" in name} == {
                'cleave_requests_ended_total{cache="miss",outcome="done"}': 1,
                'cleave_requests_ended_total{cache="answer",outcome="done"}': 1,
                'cleave_requests_ended_total{cache="miss",outcome="bad_input"}': 1,
                'cleave_requests_ended_total{cache="miss",outcome="cancelled"}': 1,
            }
            assert found["cleave_payload_received_bytes_total"] == 4 * len(first.inputs[0].payload)
            assert found["cleave_answer_tokens_total"] == 4
            assert found["cleave_ttft_seconds_count"] == 2
            assert found['cleave_request_step_seconds_count{step="decode"}'] == 1
            assert found["cleave_sent_bytes_total"] > 0

    settle(run())
