"""What a cloud's metrics say: an exposition to numbers, two of them to rates and quantiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from wire.errors import BadInput, MalformedMessage

STEPS = ("queue", "decode_payload", "tail", "prefill", "decode", "cache")
# Where each row of the table of seconds comes from: a histogram, and its labels.
_SPREADS: dict[str, tuple[str, dict[str, str]]] = {
    "ttft": ("cleave_ttft_seconds", {}),
    "tpot": ("cleave_tpot_seconds", {}),
    **{step: ("cleave_request_step_seconds", {"step": step}) for step in STEPS},
    "total": ("cleave_request_seconds", {}),
    "tail_batch": ("cleave_tail_batch_seconds", {}),
    "prefill_chunk": ("cleave_prefill_chunk_seconds", {}),
    "decode_step": ("cleave_decode_step_seconds", {}),
    "loop_lag": ("cleave_loop_lag_seconds", {}),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A Prometheus histogram: how many values were at most each bound, the last one infinite; and their sum."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()  # cumulative
    sum: float = 0.0

    @property
    def count(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        return self.sum / self.count if self.count > 0 else None

    def since(self, before: Distribution) -> Distribution:
        """What was added after `before`."""
        if before.bounds != self.bounds:
            return self
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Distribution(self.bounds, counts, self.sum - before.sum)

    def quantile(self, q: float) -> float | None:
        """As Prometheus' histogram_quantile: linear inside the bucket that holds the rank; None without values.

        The first bucket begins at 0; of a rank beyond the last finite bound only that bound is known.
        """
        rank = q * self.count
        if self.count <= 0:
            return None
        lower, below = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                return (
                    lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
                )
            lower, below = (lower if math.isinf(bound) else bound), count
        return lower


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One exposition: by the sample's name, its labels and value."""

    samples: Mapping[str, list[tuple[Mapping[str, str], float]]] = field(default_factory=dict)

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples that have these labels; 0 where there is none."""
        return sum(value for has, value in self.samples.get(name, ()) if labels.items() <= has.items())

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The same, one sum per value of a label."""
        sums: dict[str, float] = {}
        for has, value in self.samples.get(name, ()):
            if labels.items() <= has.items():
                sums[has.get(label, "")] = sums.get(has.get(label, ""), 0.0) + value
        return sums

    def info(self, name: str) -> Mapping[str, str]:
        found = self.samples.get(name)
        return found[0][0] if found else {}

    def distribution(self, name: str, **labels: str) -> Distribution:
        counts = self.by("le", f"{name}_bucket", **labels)
        if not counts:
            return Distribution()
        pairs = sorted((float(bound), count) for bound, count in counts.items())
        bounds, cumulative = zip(*pairs, strict=True)
        return Distribution(bounds, cumulative, self.value(f"{name}_sum", **labels))


def snapshot(exposition: str) -> Snapshot:
    """Parses Prometheus' text format; raises MalformedMessage where it is none, or not a cloud node's."""
    try:
        # A device has the command line, and not what the cloud needs.
        from prometheus_client.parser import text_string_to_metric_families
    except ModuleNotFoundError:
        raise BadInput(
            "`cleave top` needs a package that is not installed here; run `pip install prometheus-client`"
        ) from None
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise MalformedMessage(
            f"the cloud's metrics are not in Prometheus' text format ({type(error).__name__}); is it a cloud node "
            "of the same version?"
        ) from error
    if "cleave_build_info" not in samples:
        raise MalformedMessage("the metrics hold no cleave_build_info; is it a cleave cloud node?")
    return Snapshot(samples)


@dataclass(frozen=True, slots=True)
class Now:
    """What is so at one moment."""

    model: str
    version: str
    device: str
    dtype: str
    uptime_s: float
    requests_open: int
    requests_queued: int
    streams_open: int
    slots: int
    slots_used: int
    decoding: int
    prefilling: int
    cache_bytes: int
    cache_entries: int
    prefix_bytes: int
    prefix_entries: int
    is_draining: bool
    resident_bytes: int
    open_fds: int


def now(reading: Snapshot, time_s: float) -> Now:
    """`time_s` is Unix time here; where the cloud's clock is ahead, its uptime is 0."""
    build = reading.info("cleave_build_info")

    def gauge(name: str) -> int:
        return int(reading.value(f"cleave_{name}"))

    return Now(
        model=", ".join(reading.by("model", "cleave_build_info")),
        version=build.get("version", ""),
        device=build.get("device", ""),
        dtype=build.get("dtype", ""),
        uptime_s=max(0.0, time_s - reading.value("cleave_start_time_seconds")),
        requests_open=gauge("requests_open"),
        requests_queued=gauge("requests_queued"),
        streams_open=gauge("streams_open"),
        slots=gauge("slots"),
        slots_used=gauge("slots_used"),
        decoding=gauge("sequences_decoding"),
        prefilling=gauge("sequences_prefilling"),
        cache_bytes=gauge("cache_bytes"),
        cache_entries=gauge("cache_entries"),
        prefix_bytes=gauge("prefix_bytes"),
        prefix_entries=gauge("prefix_entries"),
        is_draining=bool(gauge("draining")),
        resident_bytes=int(reading.value("process_resident_memory_bytes")),
        open_fds=int(reading.value("process_open_fds")),
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took: None where it did not take place."""

    p50_s: float | None
    p95_s: float | None
    mean_s: float | None
    per_s: float


@dataclass(frozen=True, slots=True)
class Lookups:
    """Of one kind in the cache; `hit_share` is None where there were none."""

    per_s: float
    hit_share: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two readings that are `seconds` apart."""

    seconds: float
    received_per_s: float
    ended_per_s: Mapping[str, float]  # by outcome
    by_cache_per_s: Mapping[str, float]  # those that are done: miss, features, answer
    joined_per_s: float
    refused_per_s: float
    resumed_per_s: float
    mean_decode_batch: float | None
    mean_tail_batch: float | None
    decode_tokens_per_s: float
    prefill_tokens_per_s: float
    reused_tokens_per_s: float
    reuse_share: float | None  # of all prompt tokens, those that were not read again
    received_bytes_per_s: float
    sent_bytes_per_s: float
    lookups: Mapping[str, Lookups]
    evictions_per_s: float
    prefix_hits_per_s: float
    steps: Mapping[str, Spread]

    @property
    def done_per_s(self) -> float:
        return self.ended_per_s.get("done", 0.0)

    @property
    def failed_per_s(self) -> float:
        return sum(self.ended_per_s.values()) - self.done_per_s


def rates(before: Snapshot, after: Snapshot, seconds: float) -> Rates:
    """Differences over the time between; of a cloud that restarted in between, what it did since."""
    start = "cleave_start_time_seconds"
    if before.value(start) != after.value(start):
        before = Snapshot()
    made = _Differences(before, after, seconds)
    prefill = made.per_s("cleave_prefill_tokens_total")
    reused = made.per_s("cleave_prefill_reused_tokens_total")
    return Rates(
        seconds=seconds,
        received_per_s=made.per_s("cleave_requests_received_total"),
        ended_per_s=made.by("outcome", "cleave_requests_ended_total"),
        by_cache_per_s=made.by("cache", "cleave_requests_ended_total", outcome="done"),
        joined_per_s=made.per_s("cleave_requests_joined_total"),
        refused_per_s=made.per_s("cleave_requests_refused_total"),
        resumed_per_s=made.per_s("cleave_requests_resumed_total"),
        mean_decode_batch=made.distribution("cleave_decode_batch_size").mean,
        mean_tail_batch=made.distribution("cleave_tail_batch_size").mean,
        decode_tokens_per_s=made.per_s("cleave_decode_tokens_total"),
        prefill_tokens_per_s=prefill,
        reused_tokens_per_s=reused,
        reuse_share=_share(reused, prefill + reused),
        received_bytes_per_s=made.per_s("cleave_payload_received_bytes_total"),
        sent_bytes_per_s=made.per_s("cleave_sent_bytes_total"),
        lookups={kind: made.lookups(kind) for kind in after.by("kind", "cleave_cache_lookups_total")},
        evictions_per_s=made.per_s("cleave_cache_evictions_total"),
        prefix_hits_per_s=made.per_s("cleave_prefix_hits_total"),
        steps={step: made.spread(name, **labels) for step, (name, labels) in _SPREADS.items()},
    )


@dataclass(frozen=True, slots=True)
class _Differences:
    before: Snapshot
    after: Snapshot
    seconds: float

    def per_s(self, name: str, **labels: str) -> float:
        added = self.after.value(name, **labels) - self.before.value(name, **labels)
        return added / self.seconds if self.seconds > 0 else 0.0

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        values = self.after.by(label, name, **labels)
        return {value: self.per_s(name, **{**labels, label: value}) for value in values}

    def distribution(self, name: str, **labels: str) -> Distribution:
        return self.after.distribution(name, **labels).since(self.before.distribution(name, **labels))

    def spread(self, name: str, **labels: str) -> Spread:
        made = self.distribution(name, **labels)
        per_s = made.count / self.seconds if self.seconds > 0 else 0.0
        return Spread(made.quantile(0.5), made.quantile(0.95), made.mean, per_s)

    def lookups(self, kind: str) -> Lookups:
        name = "cleave_cache_lookups_total"
        per_s = self.per_s(name, kind=kind)
        return Lookups(per_s, _share(self.per_s(name, kind=kind, outcome="hit"), per_s))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
