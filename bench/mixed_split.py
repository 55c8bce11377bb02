"""Sixteen edges at four split points against sixteen edges at one: do the tails of different lengths share batches?"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clouds import cloud
from bench.load import Job, JobMaker, closed_loop, edges
from bench.readings import mean_between, read_metrics
from bench.report import Bar, Result, Table
from bench.subjects import NUM_THREADS, make_subject
from cleave.terminal import Report
from edge_node.link import CloudLink
from training.evaluate import held_out_samples
from wire.errors import Unavailable

LEAST_RATIO = 0.8
NUM_EDGES, NUM_SPLITS = 16, 4
_MIXED = -1  # in a split point's place
_FULL, _QUICK = (8, 6), (2, 3)  # rounds, requests per edge and run
_CODEC = "raw"


@dataclass(frozen=True, slots=True)
class Run:
    """Sixteen edges once."""

    requests_per_s: float
    tail_batch: float  # requests in it, on average
    texts: tuple[str, ...]


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """The same questions at each of four split points, and mixed; once each per round."""
    rounds, per_edge = _QUICK if quick else _FULL
    with tempfile.TemporaryDirectory(prefix="cleave-mixed-") as folder:
        subject = make_subject("default", Path(folder))
        maker = JobMaker(subject.bundle)
        splits = maker.spread(NUM_SPLITS)
        sets = {split: _jobs(maker, splits, split, NUM_EDGES * per_edge) for split in (_MIXED, *splits)}
        with cloud(subject, num_slots=NUM_EDGES, cache_bytes=0, prefix_bytes=0) as node:
            runs = asyncio.run(_rounds(node.address, sets, rounds, progress))
    labels = [point.label for point in maker.chain.split_points]
    settings = {
        "quick": quick,
        "model": "default",
        "torch_threads": NUM_THREADS["default"],
        "edges": NUM_EDGES,
        "split_points": splits,
        "codec": _CODEC,
        "requests_per_edge": per_edge,
        "rounds": rounds,
        "caches": "off",
        "value": "median over rounds; a ratio is of one round, to the harmonic mean of the four alone",
    }
    measured = {
        "mixed" if split == _MIXED else str(split): [[one.requests_per_s, one.tail_batch] for one in each]
        for split, each in runs.items()
    }
    ratios = _ratios(runs)
    bars = [
        Bar("mixed split points / one split point, requests/s", statistics.median(ratios), LEAST_RATIO, "at least"),
        Bar("answers that differ between runs", _differing(runs), 0, "at most"),
    ]  # fmt: skip
    return Result("mixed-split", settings, 0, bars, [_table(runs, ratios, labels)], measured)


def _jobs(maker: JobMaker, splits: Sequence[int], split: int, count: int) -> list[Job]:
    """Distinct pictures and questions; mixed, the next edge is at the next split point."""
    samples = list(held_out_samples(4 * count))[::4]
    return [
        maker.job(
            sample.image,
            sample.question,
            splits[index % NUM_EDGES % len(splits)] if split == _MIXED else split,
            _CODEC,
        )
        for index, sample in enumerate(samples)
    ]


async def _rounds(
    address: str, sets: dict[int, list[Job]], rounds: int, progress: Report
) -> dict[int, list[Run]]:
    runs: dict[int, list[Run]] = {split: [] for split in sets}
    async with edges(address, NUM_EDGES) as links:
        for split, jobs in sets.items():
            await _run(links, jobs[:NUM_EDGES], f"warm-{split}")
        for number in range(rounds):
            progress("rounds", number, rounds)
            # Backwards every other time, so that none is always the first.
            for split in list(sets)[:: 1 if number % 2 == 0 else -1]:
                runs[split].append(await _run(links, sets[split], f"{number}-{split}"))
        progress("rounds", rounds, rounds)
    return runs


async def _run(links: Sequence[CloudLink], jobs: Sequence[Job], name: str) -> Run:
    before = read_metrics(await links[0].metrics())
    started = time.perf_counter()
    outcomes = await closed_loop(links, jobs, name)
    took_s = time.perf_counter() - started
    failed = [one.ending for one in outcomes if one.ending != "done"]
    if failed:
        raise Unavailable(f"{len(failed)} of {len(outcomes)} requests failed, such as with {failed[0]}")
    after = read_metrics(await links[0].metrics())
    texts = tuple(one.text for one in outcomes)
    return Run(len(jobs) / took_s, mean_between(before, after, "cleave_tail_batch_size"), texts)


def _ratios(runs: dict[int, list[Run]]) -> list[float]:
    """Of each round."""
    alone = [each for split, each in runs.items() if split != _MIXED]
    return [
        mixed.requests_per_s / statistics.harmonic_mean([each[number].requests_per_s for each in alone])
        for number, mixed in enumerate(runs[_MIXED])
    ]


def _differing(runs: dict[int, list[Run]]) -> int:
    """Lossless features: a question has one answer, at whatever split point."""
    expected = runs[_MIXED][0].texts
    pairs = [zip(one.texts, expected, strict=True) for each in runs.values() for one in each]
    return sum(text != wanted for texts in pairs for text, wanted in texts)


def _table(runs: dict[int, list[Run]], ratios: Sequence[float], labels: Sequence[str]) -> Table:
    rows: list[tuple[object, ...]] = []
    for split, each in runs.items():
        rates = [one.requests_per_s for one in each]
        batch = statistics.mean(one.tail_batch for one in each)
        where = "four, mixed" if split == _MIXED else f"{split} ({labels[split]})"
        rows.append((where, statistics.median(rates), min(rates), max(rates), batch))
    means = [
        statistics.harmonic_mean([each[number].requests_per_s for split, each in runs.items() if split != _MIXED])
        for number in range(len(ratios))
    ]  # fmt: skip
    rows.append(("harmonic mean of the four", statistics.median(means), min(means), max(means), ""))
    rows.append(("mixed / that mean, per round", statistics.median(ratios), min(ratios), max(ratios), ""))
    columns: tuple[Any, ...] = (
        "split point",
        "requests/s (median)",
        "least",
        "most",
        "requests per tail batch",
    )
    return Table(f"{NUM_EDGES} edges, each with its next request ready when the last is done", columns, rows)
