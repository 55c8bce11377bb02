"""What `cleave top` reads: quantiles and rates from expositions."""

from __future__ import annotations

import sys

import pytest

from cleave.top_reading import Distribution, now, rates, snapshot
from tests.cleave.expositions import some_metrics, work
from wire.errors import BadInput, MalformedMessage

_INF = float("inf")


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((10, 20, 20, 20), 0.5, 1.0),  # the rank is at the end of the first bucket
        ((10, 20, 20, 20), 0.25, 0.5),  # the first one begins at 0
        ((10, 20, 20, 20), 0.75, 1.5),
        ((0, 0, 10, 10), 0.5, 3.0),  # empty buckets below
        ((0, 0, 10, 10), 0.95, 3.9),
        ((10, 10, 20, 20), 0.9, 3.6),  # an empty one in the middle
        ((0, 0, 0, 10), 0.5, 4.0),  # beyond the last finite bound
        ((9, 9, 9, 10), 0.95, 4.0),
        ((0, 0, 0, 0), 0.5, None),
    ],
)
def test_quantile_is_that_of_histogram_quantile(
    counts: tuple[float, ...], q: float, expected: float | None
) -> None:
    made = Distribution((1.0, 2.0, 4.0, _INF), counts)
    assert made.quantile(q) == (None if expected is None else pytest.approx(expected))


def test_distribution_of_nothing_has_no_quantile_and_no_mean() -> None:
    assert (Distribution().quantile(0.5), Distribution().mean) == (None, None)


def test_difference_of_distributions_is_what_came_in_between() -> None:
    before = Distribution((1.0, _INF), (3, 4), 9.0)
    after = Distribution((1.0, _INF), (5, 7), 20.0)
    assert after.since(before) == Distribution((1.0, _INF), (2, 3), 11.0)
    assert after.since(Distribution()) == after


def test_rates_are_differences_over_time() -> None:
    metrics = some_metrics()
    work(metrics)
    before = snapshot(metrics.exposition())
    work(metrics)
    made = rates(before, snapshot(metrics.exposition()), 2.0)
    assert made.received_per_s == 10
    assert (made.done_per_s, made.failed_per_s) == (10, 0.5)
    assert made.ended_per_s == {"done": 10, "deadline_exceeded": 0.5}
    assert made.by_cache_per_s == {"miss": 10}
    assert (made.decode_tokens_per_s, made.prefill_tokens_per_s) == (80, 300)
    assert (made.reused_tokens_per_s, made.reuse_share) == (100, 0.25)
    assert (made.mean_decode_batch, made.mean_tail_batch) == (8, 4)
    assert made.received_bytes_per_s == 10e6


def test_times_are_of_the_window_alone() -> None:
    metrics = some_metrics()
    metrics.decode_step(1, 30.0)
    before = snapshot(metrics.exposition())
    for _ in range(20):
        metrics.decode_step(1, 0.0015)
    step = rates(before, snapshot(metrics.exposition()), 2.0).steps["decode_step"]
    assert (step.per_s, step.mean_s) == (10, pytest.approx(0.0015))
    assert (step.p50_s, step.p95_s) == (pytest.approx(0.0015), pytest.approx(0.00195))


def test_nothing_done_has_rates_of_zero_and_no_times() -> None:
    idle = snapshot(some_metrics().exposition())
    for apart in (0.0, 1.0):
        made = rates(idle, idle, apart)
        assert (made.received_per_s, made.reuse_share, made.mean_decode_batch) == (0, None, None)
        assert {spread.p50_s for spread in made.steps.values()} == {None}


def test_cloud_that_restarted_is_counted_from_its_start() -> None:
    old, new = some_metrics(), some_metrics()
    work(old, 100)
    work(new, 10)
    made = rates(snapshot(old.exposition()), snapshot(new.exposition()), 2.0)
    assert made.received_per_s == 5


def test_hit_share_is_per_kind_over_the_window() -> None:
    metrics, counts = some_metrics(), {("answer", "hit"): 5, ("answer", "miss"): 5, ("claim", "miss"): 1}
    metrics.watch("cache_lookups", lambda: counts)
    before = snapshot(metrics.exposition())
    counts["answer", "hit"] += 3
    counts["answer", "miss"] += 1
    found = rates(before, snapshot(metrics.exposition()), 1.0).lookups
    assert (found["answer"].per_s, found["answer"].hit_share) == (4, 0.75)
    assert (found["claim"].per_s, found["claim"].hit_share) == (0, None)


def test_uptime_is_never_below_zero_where_clocks_differ() -> None:
    reading = snapshot(some_metrics().exposition())
    start_s = reading.value("cleave_start_time_seconds")
    assert now(reading, start_s + 60).uptime_s == 60
    assert now(reading, start_s - 60).uptime_s == 0


@pytest.mark.parametrize("text", ["", "<html>no</html>", "up 1\n", "cleave_slots x\n"])
def test_what_no_cloud_node_exports_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage, match="is it a cl"):
        snapshot(text)


def test_missing_package_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    with pytest.raises(BadInput, match="pip install prometheus-client"):
        snapshot("")
