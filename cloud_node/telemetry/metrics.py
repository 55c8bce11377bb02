"""What the cloud counts and measures, and its exposition in Prometheus' text format; docs/metrics.md has every name.

On a registry of its own: several clouds may live in one process. Any thread may call anything here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    ProcessCollector,
    generate_latest,
)

from cloud_node.asked.sequence import StepTimes
from cloud_node.telemetry.watched import Reading, Watch, Watching

# A look-up in memory takes some 0.1 ms, and in Redis a few times that; nobody waits for an answer above a minute.
_SECONDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)

CacheUse = Literal["miss", "features", "answer"]
Step = Literal["cache", "queue", "decode_payload", "tail", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Build:
    """What runs here; empty where nobody said."""

    version: str = ""
    model: str = ""
    device: str = ""
    dtype: str = ""


_UNSAID = Build()


# Cost per call, one core of an AMD EPYC, alone: decode_step 1.6 us, prefill_chunk 1.1, tail_batch 1.3, request_ended
# 1.3, answered 10, loop_lag 0.8, the others 0.3; exposition 2.1 ms. A decode step takes 1.5 ms or more: it pays 0.1 %.
class Metrics:
    """One cloud's. The engine calls it at every step, and the streams at every message."""

    def __init__(self, *builds: Build) -> None:
        """One build per model that is served."""
        self.registry = _Registry()
        self._watching: dict[Watch, Callable[[], Reading]] = {}
        self.registry.register(Watching(self._watching))
        info = Info("cleave_build", "What runs here; always 1.", ("model",), registry=self.registry)
        for build in builds or (_UNSAID,):
            info.labels(build.model).info(
                {"version": build.version, "device": build.device, "dtype": build.dtype}
            )
        started = Gauge("cleave_start_time_seconds", "When it started, Unix time.", registry=self.registry)
        started.set(time.time())
        # What the process takes, as every Prometheus client names it.
        ProcessCollector(registry=self.registry)
        self._make_request_families()
        self._make_stream_families()
        self._make_engine_families()

    def _make_request_families(self) -> None:
        self._received = self._counter("requests_received", "Opens that came.")
        self._ended = self._counter(
            "requests_ended", "Requests that got Done or Failed.", ("outcome", "cache")
        )
        self._answer_prompt_tokens = self._counter("answer_prompt_tokens", "Prompt tokens of answers.")
        self._answer_tokens = self._counter("answer_tokens", "Tokens of answers, repeated ones included.")
        self._bytes_received = self._counter("payload_received_bytes", "Coded features that came.")
        self._bytes_sent = self._counter("sent_bytes", "Messages that went down the streams.")
        self._request_s = self._histogram("request_seconds", "From the whole payload to the last token.")
        self._ttft_s = self._histogram("ttft_seconds", "From the whole payload to the first text.")
        self._tpot_s = self._histogram("tpot_seconds", "Per token after the first, one value per answer.")
        steps = self._histogram("request_step_seconds", "Of one request in one step.", labels=("step",))
        self._step_s = {step: steps.labels(step) for step in get_args(Step)}

    def _make_stream_families(self) -> None:
        self._refused = self._counter("requests_refused", "Opens that were turned away at once.", ("reason",))
        self._resumed = self._counter(
            "requests_resumed",
            "Opens that went on with a request on a new stream.",
            ("outcome",),
        )
        self._streams_ended = self._counter("streams_ended", "Streams that have ended.", ("outcome",))
        self._go_aways = self._counter("go_aways", "Streams that were told that this cloud closes.")
        self._lag_s = self._histogram("loop_lag_seconds", "How late the event loop came to a timer.")

    def _make_engine_families(self) -> None:
        self._tail_size = self._histogram("tail_batch_size", "Requests in a batch of tails.", _SIZES)
        self._tail_s = self._histogram("tail_batch_seconds", "Decoding and running a batch of tails.")
        self._prefill_s = self._histogram("prefill_chunk_seconds", "Reading one chunk of a prompt.")
        self._prefill_tokens = self._counter("prefill_tokens", "Prompt tokens that were read.")
        self._reused_tokens = self._counter(
            "prefill_reused_tokens",
            "Prompt tokens that were not read again: their keys and values were kept.",
        )
        self._decode_size = self._histogram("decode_batch_size", "Sequences in a decode step.", _SIZES)
        self._decode_s = self._histogram("decode_step_seconds", "One decode step of the batch.")
        self._decode_tokens = self._counter(
            "decode_tokens", "Tokens of decode steps; the first of an answer comes of its prompt."
        )

    def watch(self, name: Watch, read: Callable[[], Reading]) -> None:
        """From now on `read` is asked for this family whenever somebody asks for the exposition.

        It is called on any thread, must not wait or raise, and gives a number, or numbers by label values.
        """
        self._watching[name] = read

    def request_received(self) -> None:
        """An Open came, whatever becomes of it."""
        self._received.inc()

    def request_ended(self, outcome: str, cache: CacheUse) -> None:
        """`outcome`: "done", or the error code's name in lower case."""
        self._ended.labels(outcome, cache).inc()

    def request_refused(self, reason: str) -> None:
        """An Open was turned away before anything was done for it; `reason` as the outcome of `request_ended`."""
        self._refused.labels(reason).inc()

    def request_resumed(self, is_found: bool) -> None:
        """An edge came back to its request, which is here, or begins anew."""
        self._resumed.labels("found" if is_found else "forgotten").inc()

    def stream_ended(self, outcome: str) -> None:
        """`outcome`: "ok", or the name of the error's code in lower case."""
        self._streams_ended.labels(outcome).inc()

    def go_away_said(self) -> None:
        self._go_aways.inc()

    def loop_lag(self, seconds: float) -> None:
        """A timer of the event loop went off that late."""
        self._lag_s.observe(seconds)

    def answered(
        self, times: StepTimes, prompt_tokens: int, generated_tokens: int, ttft_s: float | None
    ) -> None:
        """A request is done. A step of exactly 0 s did not take place (a repeated answer has none of them)."""
        self._answer_prompt_tokens.inc(prompt_tokens)
        self._answer_tokens.inc(generated_tokens)
        for step, histogram in self._step_s.items():
            if (seconds := getattr(times, f"{step}_s")) > 0:
                histogram.observe(seconds)
        self._request_s.observe(times.total_s)
        if ttft_s is not None:
            self._ttft_s.observe(ttft_s)
        if generated_tokens > 1 and times.decode_s > 0:
            self._tpot_s.observe(times.decode_s / (generated_tokens - 1))

    def tail_batch(self, size: int, seconds: float) -> None:
        """Payloads of `size` requests were decoded and went through the tail together."""
        self._tail_size.observe(size)
        self._tail_s.observe(seconds)

    def prefill_chunk(self, tokens: int, seconds: float, reused_tokens: int) -> None:
        """`tokens` of a prompt were read; `reused_tokens` before them, at its first chunk, were not."""
        self._prefill_tokens.inc(tokens)
        self._prefill_s.observe(seconds)
        if reused_tokens:
            self._reused_tokens.inc(reused_tokens)

    def decode_step(self, batch: int, seconds: float) -> None:
        """`batch` sequences got a token each."""
        self._decode_size.observe(batch)
        self._decode_s.observe(seconds)
        self._decode_tokens.inc(batch)

    def bytes_received(self, payload: int) -> None:
        """Bytes of coded features, in an Open or a Chunk."""
        self._bytes_received.inc(payload)

    def bytes_sent(self, n: int) -> None:
        """Bytes of a message that goes down a stream."""
        self._bytes_sent.inc(n)

    def exposition(self) -> str:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry).decode()

    def _counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"cleave_{name}", help, labels, registry=self.registry)

    def _histogram(
        self, name: str, help: str, buckets: tuple[float, ...] = _SECONDS, labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(f"cleave_{name}", help, labels, buckets=buckets, registry=self.registry)


class _Registry(CollectorRegistry):
    """Without the library's `_created` series: one more per counter, and nobody reads them."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family
