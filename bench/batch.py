"""Continuous batching: batched answers equal those alone, and how fast against a bare loop over the same model."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.batch_exact import NUM_SEQUENCES, Exactness, measure_exactness
from bench.batch_speed import Measured, Plan, measure_speed, parts_of
from bench.report import Bar, Result, Table
from bench.subjects import NUM_THREADS, SubjectName, make_subject
from cleave.terminal import Report

LEAST_RUNNER, LEAST_SERVICE, LEAST_GAIN = 0.85, 0.65, 3.0
_SEED = 0
_NUM_BAD = 3  # sequences of a round that end badly, on purpose
_FULL: dict[SubjectName, Plan] = {
    "default": Plan((8, 32), 128, num_rounds=5, num_alone=8, profile_tokens=128, has_free=True),
    "100M": Plan((8, 32), 128, num_rounds=2, num_alone=2, profile_tokens=64, has_free=False),
}
_QUICK: dict[SubjectName, Plan] = {
    "default": Plan((8, 32), 128, num_rounds=1, num_alone=4, profile_tokens=64, has_free=True),
    "100M": Plan((8,), 32, num_rounds=1, num_alone=1, profile_tokens=0, has_free=False),
}
# Rounds, and the mean seconds between two arrivals: about a quarter of what one of them takes.
_EXACT: dict[SubjectName, tuple[int, float]] = {"default": (4, 0.02), "100M": (1, 0.3)}


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Both models, one after the other; of the random one a sample checks speed alone."""
    plans = _QUICK if quick else _FULL
    measured: dict[SubjectName, Measured] = {}
    exact: dict[SubjectName, Exactness] = {}
    with tempfile.TemporaryDirectory(prefix="cleave-batch-") as name:
        folder = Path(name)
        for done, (subject_name, plan) in enumerate(plans.items()):
            progress("models", done, len(plans))
            subject = make_subject(subject_name, folder, _SEED)
            if not quick or subject_name == "default":
                rounds, pace_s = _EXACT[subject_name]
                exact[subject_name] = measure_exactness(
                    subject, folder, 1 if quick else rounds, pace_s, _SEED
                )
            measured[subject_name] = measure_speed(subject, folder, plan)
        progress("models", len(plans), len(plans))
    settings = {
        "quick": quick,
        "torch_threads": NUM_THREADS,
        "plans": {subject_name: asdict(plan) for subject_name, plan in plans.items()},
        "value": "median over rounds; a ratio is of one round",
        "bare": "model(input_ids, past_key_values=DynamicCache()), argmax, fixed batch",
        "service": "steady: from the last first token to the first last one, as the client sees them",
    }
    return Result("batch", settings, _SEED, _bars(exact, measured), _tables(exact, measured), {
        "exactness": {subject_name: asdict(one) for subject_name, one in exact.items()},
        "speed": {subject_name: asdict(one) for subject_name, one in measured.items()},
    })  # fmt: skip


def _bars(exact: dict[SubjectName, Exactness], measured: dict[SubjectName, Measured]) -> list[Bar]:
    bars = []
    for name, one in exact.items():
        bars.append(
            Bar(
                f"{name}: answers that differ from those alone",
                one.num_compared - one.num_equal,
                0,
                "at most",
            )
        )
        missing = _NUM_BAD * one.num_rounds - one.num_badly_meant
        bars.append(
            Bar(f"{name}: bad endings (cancel, failure, deadline) that were others", missing, 0, "at most")
        )
    for name, result in measured.items():
        for rows, speeds in result.speeds.items():
            runner = statistics.median(_ratios(speeds.runner, speeds.bare))
            service = statistics.median(_ratios(speeds.service, speeds.bare))
            bars.append(Bar(f"{name}: runner / bare loop, {rows} rows", runner, LEAST_RUNNER, "at least"))
            bars.append(
                Bar(f"{name}: service / bare loop, {rows} streams", service, LEAST_SERVICE, "at least")
            )
        gain = statistics.median(_ratios(result.gain.at_once, result.gain.one_by_one))
        bars.append(Bar(f"{name}: 8 requests at once / one at a time", gain, LEAST_GAIN, "at least"))
    return bars


def _tables(exact: dict[SubjectName, Exactness], measured: dict[SubjectName, Measured]) -> list[Table]:
    columns = ("model", "rounds", "most at once", "compared", "equal", "tokens", "bad endings as meant")
    rows = [
        (name, one.num_rounds, one.most_at_once, one.num_compared, one.num_equal, one.num_tokens,
         f"{one.num_badly_meant} of {_NUM_BAD * one.num_rounds}")
        for name, one in exact.items()
    ]  # fmt: skip
    title = (
        f"{NUM_SEQUENCES} sequences a round over gRPC, 3 of them ending badly: token ids against those alone"
    )
    return [
        Table(title, columns, rows),
        _speed_table(measured),
        _gain_table(measured),
        *(
            _parts_table(name, rows, result)
            for name, result in measured.items()
            for rows in result.service_ms
        ),
    ]


def _speed_table(measured: dict[SubjectName, Measured]) -> Table:
    rows: list[tuple[object, ...]] = []
    for name, result in measured.items():
        for count, speeds in result.speeds.items():
            pairs = [
                ("bare loop", speeds.bare, speeds.bare),
                ("runner alone", speeds.runner, speeds.bare),
                ("runner alone, length not forced", speeds.runner_free, speeds.bare_free),
                ("service, a stream per request", speeds.service, speeds.bare),
                ("service, one stream", speeds.one_stream, speeds.bare),
            ]
            rows += [
                (
                    name,
                    NUM_THREADS[name],
                    count,
                    what,
                    statistics.median(rates),
                    *_spread(_ratios(rates, bare)),
                )
                for what, rates, bare in pairs
                if rates
            ]
    columns = ("model", "threads", "rows", "what", "tokens/s", "of the bare loop", "least", "most")
    return Table("steady decoding, prompts excluded: medians over rounds", columns, rows)


def _gain_table(measured: dict[SubjectName, Measured]) -> Table:
    rows: list[tuple[object, ...]] = []
    for name, result in measured.items():
        gain = result.gain
        for what, many, one in (
            ("whole requests", gain.at_once, gain.one_by_one),
            ("decoding alone", gain.at_once_steady, gain.one_by_one_steady),
        ):
            ratios = _spread(_ratios(many, one))
            rows.append((name, what, statistics.median(many), statistics.median(one), *ratios))
    columns = ("model", "of", "8 at once, tokens/s", "one at a time", "ratio", "least", "most")
    return Table(
        "8 requests at once against one at a time, a stream each: medians over rounds", columns, rows
    )


def _parts_table(name: SubjectName, rows: int, result: Measured) -> Table:
    runner, service = result.runner_ms[rows], result.service_ms[rows]
    lines: list[tuple[object, ...]] = [("bare loop, for comparison", f"{runner['bare']:.2f}", "")]
    lines += [
        (part, f"{alone:.2f}" if alone != "" else "", f"{whole:.2f}")
        for part, (alone, whole) in parts_of(runner, service).items()
    ]
    lines += [
        ("beside it: CPU of the loop (gRPC's Python, messages)", "", f"{service['cpu_loop']:.2f}"),
        ("  of that, events to messages", "", f"{service['deliver']:.2f}"),
        (
            "beside it: CPU of all other threads (gRPC's, torch's)",
            "",
            f"{service['cpu_all'] - service['cpu_loop'] - service['cpu_step']:.2f}",
        ),
    ]
    title = (
        f"where a step's time goes, {name}, {rows} rows, ms ({service['steps']:.0f} steps, profiled apart)"
    )
    return Table(title, ("part", "runner alone", "service"), lines)


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value / other for value, other in zip(values, others, strict=True)]


def _spread(values: Sequence[float]) -> tuple[Any, ...]:
    """Median, least, most."""
    return statistics.median(values), min(values), max(values)
