"""Metrics as a cloud has them, for tests of what reads and shows them."""

from __future__ import annotations

from cloud_node.asked.sequence import StepTimes
from cloud_node.telemetry.metrics import Build, Metrics


def some_metrics(model: str = "tiny") -> Metrics:
    metrics = Metrics(Build("0.1.0", model, "cpu", "float32"))
    metrics.watch("slots", lambda: 16)
    metrics.watch("slots_used", lambda: 12)
    metrics.watch("cache_bytes", lambda: {("memory",): 123_456_789})
    return metrics


def work(metrics: Metrics, num_requests: int = 20) -> None:
    """Requests that are done, and one that is not."""
    for _ in range(num_requests):
        metrics.request_received()
        metrics.request_ended("done", "miss")
        metrics.answered(StepTimes(0.001, 0.002, 0.003, 0.03, 0.4, 0.5), 40, 50, 0.04)
        metrics.tail_batch(4, 0.003)
        metrics.prefill_chunk(30, 0.03, 10)
        metrics.decode_step(8, 0.0015)
        metrics.bytes_received(1_000_000)
    metrics.request_ended("deadline_exceeded", "miss")
