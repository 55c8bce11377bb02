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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.clouds import CloudProcess, cloud
from bench.load import Job, JobMaker, Outcome, at_once, closed_loop, edges
from bench.overload_plot import plot
from bench.report import RESULTS, Bar, Result, Table
from bench.subjects import NUM_THREADS, make_subject
from cleave.terminal import Report
from edge_node.link import CloudLink
from training.evaluate import held_out_samples
from wire.v1 import inference_pb2 as pb

MIN_KEPT, MAX_REFUSAL, MAX_IN_VAIN = 0.85, 1 / 20, 0.05
FULL_LOADS, QUICK_LOADS = (0.2, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0), (0.8, 1.5, 3.0)
# All loads, one after the other, several times: a machine that others slow down does so to all of them.
FULL_ROUNDS, QUICK_ROUNDS = 5, 2
ROUND_S = 4.0  # of one load
DEADLINE = 8.0  # in medians of an answer that nobody disturbs
_NUM_EDGES = 16
_NUM_QUESTIONS = 64
_LENGTHS = (1, 2, 4, 8)  # tokens of an answer, as the request says
_ALONE, _TOGETHER = 64, 192  # requests to find the median and the rate with
_CODEC = "int8:token+zstd"
# Nothing is known beforehand, so that equal requests cost the same.
_CLOUD: dict[str, Any] = {"cache_bytes": 0, "prefix_bytes": 0}


@dataclass(frozen=True, slots=True)
class Found:
    """What the loads are measured by."""

    alone_s: float  # the median answer to one edge
    rate: float  # answers per second to edges that ask without a pause

    @property
    def deadline_s(self) -> float:
        return DEADLINE * self.alone_s


@dataclass(frozen=True, slots=True)
class Level:
    """What became of the requests of one offered load."""

    load: float  # of the sustained rate
    seconds: float
    num_sent: int
    num_in_time: int
    num_refused: int
    num_in_vain: int  # answered after their deadline, or ended by it
    num_other: int  # neither answered, refused nor out of time
    answer_s: float  # median
    answer_p95_s: float
    refusal_s: float  # median
    refusal_p95_s: float
    cpu_s: float = 0.0  # of the cloud

    @property
    def offered(self) -> float:
        return self.num_sent / self.seconds

    @property
    def goodput(self) -> float:
        return self.num_in_time / self.seconds

    @property
    def refused(self) -> float:
        return self.num_refused / self.seconds

    @property
    def in_vain(self) -> float:
        return self.num_in_vain / self.seconds

    @property
    def per_cpu_s(self) -> float:
        """Answers in time per second of the cloud's processor time: what others on the machine take is not in it."""
        return self.num_in_time / self.cpu_s if self.cpu_s else 0.0

    @property
    def vain_part(self) -> float:
        """Of those that got no answer in time, those that were not told so at once."""
        return self.num_in_vain / max(1, self.num_in_vain + self.num_refused)


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """All loads on one cloud; then some of them on one that refuses nobody for time, for comparison."""
    loads, rounds = (QUICK_LOADS, QUICK_ROUNDS) if quick else (FULL_LOADS, FULL_ROUNDS)
    unshed_loads = loads[-1:] if quick else (0.5, 1.0, 1.5, 3.0)
    with tempfile.TemporaryDirectory(prefix="cleave-overload-") as folder:
        subject = make_subject("default", Path(folder))
        jobs = _jobs(JobMaker(subject.bundle))
        with cloud(subject, **_CLOUD) as node:
            found, levels = asyncio.run(_measure(node, jobs, None, loads, rounds, progress))
        with cloud(subject, sheds_late=False, **_CLOUD) as node:
            _, unshed = asyncio.run(_measure(node, jobs, found, unshed_loads, rounds, progress))
    settings = {
        "quick": quick, "loads": loads, "rounds": rounds, "seconds_per_load_and_round": ROUND_S,
        "edges": _NUM_EDGES, "arrivals": "Poisson", "answer_tokens": _LENGTHS, "codec": _CODEC, "cloud": _CLOUD,
        "deadline": f"{DEADLINE:g} medians of an undisturbed answer", "torch_threads": NUM_THREADS["default"],
    }  # fmt: skip
    measured = {
        "found": asdict(found),
        "levels": [_told(one) for one in levels],
        "without_shedding": [_told(one) for one in unshed],
    }
    plot(levels, unshed, found.rate, RESULTS / f"overload{'-quick' if quick else ''}.png")
    tables = [_table("with shedding", levels, found), _table("without", unshed, found)]
    return Result("overload", settings, 0, bars_of(levels), tables, measured)


def _jobs(maker: JobMaker) -> list[Job]:
    """Each says how long its answer will be, and is as long."""
    split = maker.num_split_points // 2
    lengths = itertools.cycle(_LENGTHS)
    return [
        maker.job(one.image, one.question, split, _CODEC, max_new_tokens=length, min_new_tokens=length)
        for one, length in zip(held_out_samples(_NUM_QUESTIONS), lengths, strict=False)
    ]


async def _measure(
    node: CloudProcess,
    jobs: Sequence[Job],
    found: Found | None,
    loads: Sequence[float],
    rounds: int,
    progress: Report,
) -> tuple[Found, list[Level]]:
    """At each load in every round, on a cloud that is warm."""
    label = "loads" if found is None else "without shedding"
    async with edges(node.address, _NUM_EDGES) as links:
        await closed_loop(links, jobs, "warm")
        found = found or await _find(links, jobs)
        outcomes: dict[float, list[Outcome]] = {load: [] for load in loads}
        cpu_s = dict.fromkeys(loads, 0.0)
        plan = list(itertools.product(range(rounds), loads))
        for done, (number, load) in enumerate(plan):
            progress(label, done, len(plan))
            asked = _arrivals(jobs, found, load, number)
            before_s = node.cpu_s()
            outcomes[load] += await at_once(links, asked, f"run{done}")
            cpu_s[load] += node.cpu_s() - before_s
        progress(label, len(plan), len(plan))
    seconds = rounds * ROUND_S
    levels = [level_of(outcomes[load], load, seconds, found.deadline_s) for load in loads]
    return found, [replace(one, cpu_s=cpu_s[one.load]) for one in levels]


async def _find(links: Sequence[CloudLink], jobs: Sequence[Job]) -> Found:
    alone = await closed_loop(links[:1], list(itertools.islice(itertools.cycle(jobs), _ALONE)), "alone")
    many = list(itertools.islice(itertools.cycle(jobs), _TOGETHER))
    together = await closed_loop(links, many, "together")
    took_s = max(one.ended_s for one in together) - min(one.sent_s for one in together)
    return Found(statistics.median(_took_s(one) for one in alone), len(together) / took_s)


def _arrivals(jobs: Sequence[Job], found: Found, load: float, number: int) -> list[Job]:
    """Of one round: by chance, the same for the same rate."""
    draw = random.Random(f"overload {load} {number}")
    asked: list[Job] = []
    at_s = draw.expovariate(load * found.rate)
    while at_s < ROUND_S:
        job = draw.choice(jobs)
        opening = pb.Open()
        opening.CopyFrom(job.opening)
        opening.deadline_s = found.deadline_s
        asked.append(replace(job, after_s=at_s, opening=opening))
        at_s += draw.expovariate(load * found.rate)
    return asked


def level_of(outcomes: Sequence[Outcome], load: float, seconds: float, deadline_s: float) -> Level:
    """One load's figures."""
    answered = [_took_s(one) for one in outcomes if one.ending == "done"]
    refused = [_took_s(one) for one in outcomes if one.ending == "overloaded"]
    num_timeouts = sum(one.ending == "deadline_exceeded" for one in outcomes)
    num_in_time = sum(took_s <= deadline_s for took_s in answered)
    return Level(
        load=load,
        seconds=seconds,
        num_sent=len(outcomes),
        num_in_time=num_in_time,
        num_refused=len(refused),
        num_in_vain=len(answered) - num_in_time + num_timeouts,
        num_other=len(outcomes) - len(answered) - len(refused) - num_timeouts,
        answer_s=_quantile(answered, 0.5),
        answer_p95_s=_quantile(answered, 0.95),
        refusal_s=_quantile(refused, 0.5),
        refusal_p95_s=_quantile(refused, 0.95),
    )


def bars_of(levels: Sequence[Level]) -> list[Bar]:
    """Of the highest load, against the best of all."""
    last = levels[-1]
    best = max(one.goodput for one in levels)
    return [
        Bar(f"goodput at {last.load:g}x / its maximum", last.goodput / best if best else 0.0, MIN_KEPT, "at least"),
        Bar(
            f"median refusal / median answer at {last.load:g}x",
            last.refusal_s / last.answer_s if last.answer_s else 1.0,
            MAX_REFUSAL,
            "at most",
        ),
        Bar(f"late or out of time / not in time at {last.load:g}x", last.vain_part, MAX_IN_VAIN, "at most"),
        Bar("requests that failed otherwise", sum(one.num_other for one in levels), 0, "at most"),
    ]  # fmt: skip


def _table(title: str, levels: Sequence[Level], found: Found) -> Table:
    shown: dict[str, Callable[[Level], str]] = {
        "load": lambda one: f"{one.load:g}x",
        "offered/s": lambda one: f"{one.offered:.1f}",
        "in time/s": lambda one: f"{one.goodput:.1f}",
        "refused/s": lambda one: f"{one.refused:.1f}",
        "late or out of time/s": lambda one: f"{one.in_vain:.1f}",
        "in time per CPU s": lambda one: f"{one.per_cpu_s:.1f}",
        "answer ms, p95": lambda one: f"{one.answer_s * 1e3:.0f}, {one.answer_p95_s * 1e3:.0f}",
        "refusal ms, p95": lambda one: f"{one.refusal_s * 1e3:.1f}, {one.refusal_p95_s * 1e3:.1f}",
    }
    rows = [tuple(show(one) for show in shown.values()) for one in levels]
    told = f"{found.rate:.0f} requests/s sustained, deadline {found.deadline_s * 1e3:.0f} ms"
    return Table(f"{title}; {told}", tuple(shown), rows)


def _told(level: Level) -> dict[str, Any]:
    return {
        **asdict(level),
        "offered": level.offered,
        "goodput": level.goodput,
        "per_cpu_s": level.per_cpu_s,
        "vain_part": level.vain_part,
    }


def _took_s(outcome: Outcome) -> float:
    return outcome.ended_s - outcome.sent_s


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0
