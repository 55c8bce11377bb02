"""Goodput against offered load: what is answered in time when more is asked than can be, and what the rest are told.

The load is open: requests come by chance (Poisson), seeded, whether or not earlier ones were answered, each with the
same deadline. What the cloud sustains is found first, by edges that ask without a pause.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.clouds import cloud
from bench.load import Job, JobMaker, Outcome, at_once, closed_loop, edges
from bench.report import RESULTS, Bar, Result, Table
from bench.subjects import NUM_THREADS, make_subject
from cleave.terminal import Report
from edge_node.link import CloudLink
from training.evaluate import held_out_samples

MIN_KEPT, MAX_REFUSAL, MAX_TIMEOUTS = 0.85, 1 / 20, 0.05
FULL_LOADS = (0.2, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
QUICK_LOADS = (0.8, 1.5, 3.0)
DEADLINE = 8.0  # in medians of an answer that nobody disturbs
_NUM_EDGES = 16
_NUM_PICTURES = 64
_ALONE, _TOGETHER = 64, 192  # requests to find the median and the rate with
_CODEC = "int8:token+zstd"
# Every request costs the same: nothing is known beforehand.
_CLOUD: dict[str, Any] = {"cache_bytes": 0, "prefix_bytes": 0}


@dataclass(frozen=True, slots=True)
class Level:
    """What became of the requests of one offered load. Rates are per second; times are medians in seconds."""

    load: float
    offered: float
    goodput: float  # answered in time
    num_sent: int
    num_in_time: int
    num_refused: int
    num_late: int  # answered after their deadline
    num_timeouts: int  # ended by their deadline
    answer_s: float
    answer_p95_s: float
    refusal_s: float
    refusal_p95_s: float

    @property
    def waited_in_vain(self) -> float:
        """Of those that got no answer in time, the part that was not refused."""
        in_vain = self.num_late + self.num_timeouts
        return in_vain / (in_vain + self.num_refused) if in_vain else 0.0


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """All loads on one cloud, the lowest first; then the highest on one that sheds nothing, for comparison."""
    loads, seconds = (QUICK_LOADS, 6.0) if quick else (FULL_LOADS, 20.0)
    with tempfile.TemporaryDirectory(prefix="cleave-overload-") as folder:
        subject = make_subject("default", Path(folder))
        jobs = _jobs(JobMaker(subject.bundle))
        with cloud(subject, **_CLOUD) as node:
            found, levels = asyncio.run(_shedding(node.address, jobs, loads, seconds, progress))
        with cloud(subject, sheds_late=False, **_CLOUD) as node:
            unshed = asyncio.run(_level(node.address, jobs, found, loads[-1], seconds))
    settings = {
        "quick": quick, "loads": loads, "seconds_per_load": seconds, "edges": _NUM_EDGES, "arrivals": "Poisson",
        "deadline": f"{DEADLINE:g} medians of an undisturbed answer", "cloud": _CLOUD, "codec": _CODEC,
        "torch_threads": NUM_THREADS["default"],
    }  # fmt: skip
    measured = {"found": asdict(found), "levels": [asdict(one) for one in levels], "without_shedding": asdict(unshed)}
    path = plot(levels, unshed, found.rate, RESULTS / f"overload{'-quick' if quick else ''}.png")
    settings["plot"] = path.name
    return Result("overload", settings, 0, _bars(levels), [_table(levels, unshed, found)], measured)


@dataclass(frozen=True, slots=True)
class Found:
    """What the loads are measured by."""

    alone_s: float  # the median answer to one edge
    rate: float  # answers per second to edges that ask without a pause

    @property
    def deadline_s(self) -> float:
        return DEADLINE * self.alone_s


def _jobs(maker: JobMaker) -> list[Job]:
    split = maker.num_split_points // 2
    return [maker.job(one.image, one.question, split, _CODEC) for one in held_out_samples(_NUM_PICTURES)]


async def _shedding(
    address: str, jobs: Sequence[Job], loads: Sequence[float], seconds: float, progress: Report
) -> tuple[Found, list[Level]]:
    async with edges(address, _NUM_EDGES) as links:
        found = await _find(links, jobs)
        levels = []
        for done, load in enumerate(loads):
            progress("loads", done, len(loads))
            levels.append(await _asked_at(links, jobs, found, load, seconds))
        progress("loads", len(loads), len(loads))
    return found, levels


async def _level(address: str, jobs: Sequence[Job], found: Found, load: float, seconds: float) -> Level:
    """One load, on a cloud that is warm."""
    async with edges(address, _NUM_EDGES) as links:
        await closed_loop(links, jobs, "warm")
        return await _asked_at(links, jobs, found, load, seconds)


async def _find(links: Sequence[CloudLink], jobs: Sequence[Job]) -> Found:
    await closed_loop(links, jobs, "warm")
    alone = await closed_loop(links[:1], list(itertools.islice(itertools.cycle(jobs), _ALONE)), "alone")
    many = list(itertools.islice(itertools.cycle(jobs), _TOGETHER))
    together = await closed_loop(links, many, "together")
    took_s = max(one.ended_s for one in together) - min(one.sent_s for one in together)
    return Found(statistics.median(_took_s(one) for one in alone), len(together) / took_s)


async def _asked_at(
    links: Sequence[CloudLink], jobs: Sequence[Job], found: Found, load: float, seconds: float
) -> Level:
    draw = random.Random(f"overload {load}")
    asked: list[Job] = []
    at_s = draw.expovariate(load * found.rate)
    while at_s < seconds:
        job = draw.choice(jobs)
        asked.append(replace(job, after_s=at_s, opening=_with_deadline(job, found.deadline_s)))
        at_s += draw.expovariate(load * found.rate)
    return summed_up(await at_once(links, asked, f"load-{load:g}".replace(".", "-")), load, seconds, found.deadline_s)


def _with_deadline(job: Job, deadline_s: float) -> Any:
    opening = type(job.opening)()
    opening.CopyFrom(job.opening)
    opening.deadline_s = deadline_s
    return opening


def summed_up(outcomes: Sequence[Outcome], load: float, seconds: float, deadline_s: float) -> Level:
    """One load's figures; what is neither answered, refused nor out of time is counted by no rate."""
    answered = [_took_s(one) for one in outcomes if one.ending == "done"]
    refused = [_took_s(one) for one in outcomes if one.ending == "overloaded"]
    in_time = sum(took_s <= deadline_s for took_s in answered)
    return Level(
        load=load,
        offered=len(outcomes) / seconds,
        goodput=in_time / seconds,
        num_sent=len(outcomes),
        num_in_time=in_time,
        num_refused=len(refused),
        num_late=len(answered) - in_time,
        num_timeouts=sum(one.ending == "deadline_exceeded" for one in outcomes),
        answer_s=_quantile(answered, 0.5),
        answer_p95_s=_quantile(answered, 0.95),
        refusal_s=_quantile(refused, 0.5),
        refusal_p95_s=_quantile(refused, 0.95),
    )


def _took_s(outcome: Outcome) -> float:
    return outcome.ended_s - outcome.sent_s


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0
