"""A thousand requests of all kinds, some of them cancelled: every answer as alone, memory flat, nothing left behind."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.clouds import CloudProcess, cloud
from bench.load import Job, JobMaker, Outcome, ask, closed_loop, edges, in_turn
from bench.readings import Line, Metrics, fit_line, read_metrics
from bench.report import Bar, Result, Table
from bench.subjects import NUM_THREADS, Subject, make_subject
from cleave.terminal import Report
from edge_node.link import CloudLink
from training.evaluate import Sample, held_out_samples

MAX_KB_PER_REQUEST = 20.0
NUM_EDGES = 16
_FULL, _QUICK = 1000, 100
_NUM_WARM = 32  # requests before the first that counts: what is allocated once is none of a request's
_CANCELLED = 0.05
_NUM_PICTURES = 60  # each at two arms, with four questions
_DISTINCT = 0.8  # requests to draw from, with repetition, per request
_CODECS = ("raw", "int8:token+zstd", "fp16")
_CACHE_BYTES, _PREFIX_BYTES = 1 << 20, 8 << 20  # small, so that they are full soon, and then evict
_GAUGES = (
    "cleave_requests_open", "cleave_requests_queued", "cleave_slots_used", "cleave_sequences_decoding",
    "cleave_sequences_prefilling",
)  # fmt: skip


@dataclass(slots=True)
class Soak:
    """What the run showed."""

    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)  # with the question's number
    resident: list[tuple[int, int]] = field(default_factory=list)  # requests ended, bytes
    seconds: float = 0.0
    before: Metrics = field(default_factory=dict)
    after: Metrics = field(default_factory=dict)


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """First every distinct request alone, on a cloud without caches; then the soak, on a fresh one with caches."""
    count, draw = _QUICK if quick else _FULL, random.Random(0)
    with tempfile.TemporaryDirectory(prefix="cleave-soak-") as folder:
        subject = make_subject("default", Path(folder))
        maker = JobMaker(subject.bundle)
        samples = list(held_out_samples(_NUM_WARM + 4 * _NUM_PICTURES))
        jobs = _jobs(maker, samples[_NUM_WARM:], round(_DISTINCT * count), draw)
        warm = _jobs(maker, samples[:_NUM_WARM], _NUM_WARM, draw)
        plan = [draw.randrange(len(jobs)) for _ in range(count)]
        expected = _alone(subject, jobs, sorted(set(plan)), progress)
        leave_s = _leaving(plan, expected, draw)
        settings: dict[str, Any] = {
            "num_slots": NUM_EDGES // 2, "cache_bytes": _CACHE_BYTES, "prefix_bytes": _PREFIX_BYTES,
        }  # fmt: skip
        with cloud(subject, **settings) as node:
            soak = asyncio.run(_soak(node, warm, jobs, plan, leave_s, draw, progress))
    line = fit_line([(n, size / 1e3) for n, size in soak.resident if n >= count / 2])
    told = {
        "quick": quick, "requests": count, "distinct": len(set(plan)), "edges": NUM_EDGES, "cancelled": _CANCELLED,
        "codecs": _CODECS, "torch_threads": NUM_THREADS["default"], "warm_requests": _NUM_WARM, "cloud": settings,
        "slope": "least squares over the second half of the requests",
    }  # fmt: skip
    return _result(told, soak, expected, line)


def _jobs(maker: JobMaker, samples: Sequence[Sample], count: int, draw: random.Random) -> list[Job]:
    """Few pictures, each at two arms, with several questions, lengths and ways of choosing."""
    arms: dict[int, list[tuple[int, str]]] = {}
    jobs = []
    for _ in range(count):
        sample = draw.choice(samples)
        settings: dict[str, Any] = {}
        if draw.random() < 0.4:
            length = draw.randrange(1, 65)
            settings = {"max_new_tokens": length, "min_new_tokens": length}
        if draw.random() < 0.2:
            settings |= {"temperature": 0.8, "seed": draw.randrange(1 << 32)}
        if id(sample.image) not in arms:
            splits = (draw.randrange(maker.num_split_points) for _ in range(2))
            arms[id(sample.image)] = [(split, draw.choice(_CODECS)) for split in splits]
        split, codec = draw.choice(arms[id(sample.image)])
        jobs.append(maker.job(sample.image, sample.question, split, codec, **settings))
    return jobs


def _alone(
    subject: Subject, jobs: Sequence[Job], wanted: Sequence[int], progress: Report
) -> dict[int, Outcome]:
    async def one_by_one(address: str) -> dict[int, Outcome]:
        expected = {}
        async with edges(address, 1) as (link,):
            for done, number in enumerate(wanted):
                progress("alone", done, len(wanted))
                (expected[number],) = await in_turn(link, [jobs[number]], f"alone-{number}")
            progress("alone", len(wanted), len(wanted))
        return expected

    with cloud(subject, num_slots=1, cache_bytes=0, prefix_bytes=0) as node:
        return asyncio.run(one_by_one(node.address))


def _leaving(plan: Sequence[int], expected: dict[int, Outcome], draw: random.Random) -> dict[int, float]:
    """Who leaves, and when: within four times what an answer takes alone, since sixteen are open at once."""
    typical_s = statistics.median(one.ended_s - one.sent_s for one in expected.values())
    chosen = draw.sample(range(len(plan)), round(_CANCELLED * len(plan)))
    return {index: draw.uniform(0, 4 * typical_s) for index in chosen}


async def _soak(
    node: CloudProcess,
    warm: Sequence[Job],
    jobs: Sequence[Job],
    plan: Sequence[int],
    leave_s: dict[int, float],
    draw: random.Random,
    progress: Report,
) -> Soak:
    """Every edge takes the next request as soon as its last one has ended."""
    soak = Soak()
    ways = [draw.choice((True, False, None)) for _ in plan]  # to ask by hash first, or not
    async with edges(node.address, NUM_EDGES) as links:
        await closed_loop(links, warm, "warm")
        soak.before = read_metrics(await links[0].metrics())
        upcoming = iter(range(len(plan)))
        started = time.perf_counter()

        async def edge(link: CloudLink) -> None:
            for index in upcoming:
                job = replace(jobs[plan[index]], leave_s=leave_s.get(index), hash_first=ways[index])
                soak.outcomes.append((plan[index], await ask(link, job, f"soak-{index}")))
                soak.resident.append((len(soak.outcomes), node.resident_bytes()))
                progress("soak", len(soak.outcomes), len(plan))

        await asyncio.gather(*(edge(link) for link in links))
        soak.seconds = time.perf_counter() - started
        # A cancelled request's row is free after the step under way.
        await asyncio.sleep(1.0)
        soak.after = read_metrics(await links[0].metrics())
    return soak


def _result(settings: dict[str, Any], soak: Soak, expected: dict[int, Outcome], line: Line) -> Result:
    endings = Counter(one.ending for _, one in soak.outcomes)
    caches = Counter(one.cache for _, one in soak.outcomes if one.ending == "done")
    differing = [
        one.request_id
        for number, one in soak.outcomes
        if one.ending == "done" and one.said != expected[number].said
    ]
    others = sum(endings.values()) - endings["done"] - endings["left"]
    left = {name: soak.after[name] for name in _GAUGES}
    bars = [
        Bar("answers that differ from those alone", len(differing), 0, "at most"),
        Bar("requests that failed", others, 0, "at most"),
        Bar("requests, rows and sequences left at the end", sum(left.values()), 0, "at most"),
    ]
    if not settings["quick"]:
        # A sample ends before the caches are full, so that its memory still grows as it should.
        bars.append(
            Bar("growth of the cloud's memory, KB per request", line.slope, MAX_KB_PER_REQUEST, "at most")
        )
    delta = {name: value - soak.before.get(name, 0.0) for name, value in soak.after.items()}
    measured = {
        "endings": endings, "caches": caches, "differing": differing, "left": left, "seconds": soak.seconds,
        "slope_kb": line.slope, "slope_error_kb": line.standard_error,
        "resident_bytes": soak.resident[:: max(1, len(soak.resident) // 100)], "metrics": delta,
    }  # fmt: skip
    return Result("soak", settings, 0, bars, [_table(soak, endings, caches, delta, line)], measured)


def _table(soak: Soak, endings: Counter[str], caches: Counter[str], delta: Metrics, line: Line) -> Table:
    ends = [
        size / 1e6
        for _, size in (soak.resident[0], soak.resident[len(soak.resident) // 2], soak.resident[-1])
    ]
    rows = [
        ("requests", len(soak.outcomes)),
        ("  done", endings["done"]),
        ("  cancelled by their edges", endings["left"]),
        ("  of those done, all computed", caches["miss"]),
        ("  of those done, features from the cache", caches["features"]),
        ("  of those done, answer from the cache or an equal request", caches["answer"]),
        ("requests that joined an equal one", int(delta["cleave_requests_joined_total"])),
        ("prompts that began with a kept one", int(delta["cleave_prefix_hits_total"])),
        ("evictions from the cache", int(delta["cleave_cache_evictions_total"])),
        ("requests per second", len(soak.outcomes) / soak.seconds),
        ("resident memory at the start, MB", ends[0]),
        ("resident memory at half, MB", ends[1]),
        ("resident memory at the end, MB", ends[2]),
        ("growth over the second half, KB per request", line.slope),
        ("  its standard error", line.standard_error),
    ]
    title = f"{len(soak.outcomes)} requests from {NUM_EDGES} edges, any split point, codec and length"
    return Table(title, ("what", ""), rows)
