"""Ten thousand requests of all kinds, some cancelled, some hostile, Redis restarted under them: every answer as alone,
none lost, memory and descriptors flat, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from bench.clouds import CloudProcess, cloud
from bench.hostile import hostile_messages, say_hostile
from bench.load import Job, JobMaker, Outcome, ask, closed_loop, edges, in_turn
from bench.readings import Line, Metrics, fit_line, read_metrics
from bench.redis_server import RedisServer
from bench.report import Bar, Result, Table
from bench.subjects import NUM_THREADS, Subject, make_subject
from cleave.terminal import Report
from edge_node.link import CloudLink
from training.evaluate import Sample, held_out_samples
from wire.v1 import inference_pb2_grpc as pb_grpc

MAX_KB_PER_REQUEST = 2.0
MAX_FILES_PER_1000 = 0.5
NUM_EDGES = 32
_FULL, _QUICK = 10_000, 200
_NUM_WARM = 64  # requests before the first that counts: what is allocated once is none of a request's
_CANCELLED = _HOSTILE = 0.01
_RESTARTS = (0.35, 0.7)  # of Redis, after so much of the requests; it is away for a while
_AWAY_S = 2.0
_NUM_PICTURES = 60  # each at one arm or two, with four questions
_MAX_DISTINCT = 1200  # requests to draw from, with repetition
_CODECS = ("raw", "int8:token+zstd", "fp16")
_REDIS_MB, _PREFIX_BYTES = 3, 8 << 20  # small, so that they are full soon, and then evict
_GAUGES = (
    "cleave_requests_open", "cleave_requests_queued", "cleave_slots_used", "cleave_sequences_decoding",
    "cleave_sequences_prefilling",
)  # fmt: skip


@dataclass(slots=True)
class Soak:
    """What the run showed."""

    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)  # with the question's number
    hostile: Counter[str] = field(default_factory=Counter)  # how they ended
    resident: list[tuple[int, int]] = field(default_factory=list)  # requests ended, bytes
    files: list[tuple[int, int]] = field(default_factory=list)  # requests ended, descriptors
    num_restarts: int = 0
    seconds: float = 0.0
    before: Metrics = field(default_factory=dict)
    after: Metrics = field(default_factory=dict)

    def note(self, question: int, outcome: Outcome, node: CloudProcess) -> None:
        """A request ended; and what the cloud holds then."""
        self.outcomes.append((question, outcome))
        self.resident.append((len(self.outcomes), node.resident_bytes()))
        self.files.append((len(self.outcomes), node.num_files()))


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """First every distinct request alone, on a cloud without caches; then the soak, on a fresh one with caches."""
    count, draw = _QUICK if quick else _FULL, random.Random(0)
    with tempfile.TemporaryDirectory(prefix="cleave-soak-") as folder:
        subject = make_subject("default", Path(folder))
        maker = JobMaker(subject.bundle)
        samples = list(held_out_samples(_NUM_WARM + 4 * _NUM_PICTURES))
        jobs = _jobs(maker, samples[_NUM_WARM:], min(_MAX_DISTINCT, count), draw)
        warm = _jobs(maker, samples[:_NUM_WARM], _NUM_WARM, draw)
        plan = [draw.randrange(len(jobs)) for _ in range(count)]
        expected = _alone(subject, jobs, sorted(set(plan)), progress)
        leave_s = _leaving(plan, expected, draw)
        with RedisServer(_REDIS_MB) as redis:
            settings: dict[str, Any] = {
                "num_slots": NUM_EDGES // 4, "max_queue": 4 * NUM_EDGES, "prefix_bytes": _PREFIX_BYTES,
                "redis": redis.url,
            }  # fmt: skip
            with cloud(subject, **settings) as node:
                soak = asyncio.run(_soak(node, redis, warm, jobs, plan, leave_s, draw, progress))
    told = {
        "quick": quick, "requests": count, "distinct": len(set(plan)), "edges": NUM_EDGES, "cancelled": _CANCELLED,
        "hostile": _HOSTILE, "redis_restarts_after": _RESTARTS, "redis_away_s": _AWAY_S, "redis_mb": _REDIS_MB,
        "redis": redis.name, "codecs": _CODECS, "torch_threads": NUM_THREADS["default"], "warm_requests": _NUM_WARM,
        "cloud": {name: value for name, value in settings.items() if name != "redis"},
        "slope": "least squares over the second half of the requests",
    }  # fmt: skip
    return _result(told, soak, expected)


def _jobs(maker: JobMaker, samples: Sequence[Sample], count: int, draw: random.Random) -> list[Job]:
    """Few pictures, each at one arm or two, with several questions, lengths and ways of choosing."""
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
            codec, splits = draw.choice(_CODECS), [draw.randrange(maker.num_split_points) for _ in range(2)]
            # Lossless features stand in for others of their picture, and the answer alone is the same. Lossy ones
            # stand in for more lossy ones, and it may not be.
            arms[id(sample.image)] = [(split, codec) for split in splits[: 2 if codec == "raw" else 1]]
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
    """Who leaves, and when: within eight times what an answer takes alone, since many are open at once."""
    typical_s = statistics.median(one.ended_s - one.sent_s for one in expected.values())
    chosen = draw.sample(range(len(plan)), round(_CANCELLED * len(plan)))
    return {index: draw.uniform(0, 8 * typical_s) for index in chosen}


async def _soak(
    node: CloudProcess,
    redis: RedisServer,
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
    hostile = set(draw.sample(range(len(plan)), round(_HOSTILE * len(plan))))
    restarts = {round(share * len(plan)) for share in _RESTARTS}
    async with edges(node.address, NUM_EDGES) as links, _stranger(node.address) as stub:
        await closed_loop(links, warm, "warm")
        soak.before = read_metrics(await links[0].metrics())
        upcoming = iter(range(len(plan)))
        started = time.perf_counter()
        background: set[asyncio.Task[None]] = set()

        async def edge(link: CloudLink) -> None:
            for index in upcoming:
                if index in restarts:
                    background.add(asyncio.create_task(_restart(redis, soak)))
                job = replace(jobs[plan[index]], leave_s=leave_s.get(index), hash_first=ways[index])
                if index in hostile:
                    soak.hostile[await _say_hostile(stub, job, index)] += 1
                soak.note(plan[index], await ask(link, job, f"soak-{index}"), node)
                progress("soak", len(soak.outcomes), len(plan))

        await asyncio.gather(*(edge(link) for link in links))
        soak.seconds = time.perf_counter() - started
        await asyncio.gather(*background)
        # A cancelled request's row is free after the step under way.
        await asyncio.sleep(1.0)
        soak.after = read_metrics(await links[0].metrics())
    return soak


async def _say_hostile(stub: pb_grpc.InferenceStub, job: Job, index: int) -> str:
    """What became of a request that means harm."""
    return await say_hostile(stub, hostile_messages(job, random.Random(index), f"hostile-{index}"))


@contextlib.asynccontextmanager
async def _stranger(address: str) -> AsyncIterator[pb_grpc.InferenceStub]:
    """A connection of its own for those who mean harm."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield pb_grpc.InferenceStub(channel)


async def _restart(redis: RedisServer, soak: Soak) -> None:
    """Killed, and empty when it is back."""
    await asyncio.to_thread(redis.kill)
    await asyncio.sleep(_AWAY_S)
    await asyncio.to_thread(redis.start)
    soak.num_restarts += 1


def _result(settings: dict[str, Any], soak: Soak, expected: dict[int, Outcome]) -> Result:
    count = settings["requests"]
    endings = Counter(one.ending for _, one in soak.outcomes)
    caches = Counter(one.cache for _, one in soak.outcomes if one.ending == "done")
    differing = [
        one.request_id
        for number, one in soak.outcomes
        if one.ending == "done" and one.said != expected[number].said
    ]
    others = sum(endings.values()) - endings["done"] - endings["left"]
    left = {name: soak.after[name] for name in _GAUGES}
    memory = fit_line([(n, size / 1e3) for n, size in soak.resident if n >= count / 2])
    files = fit_line([(n / 1e3, size) for n, size in soak.files if n >= count / 2])
    bars = [
        Bar("answers that differ from those alone", len(differing), 0, "at most"),
        Bar("requests that failed or were lost", others + count - len(soak.outcomes), 0, "at most"),
        Bar("hostile requests that were answered", soak.hostile["answered"], 0, "at most"),
        Bar("restarts of Redis", soak.num_restarts, len(_RESTARTS), "at least"),
        Bar("requests, rows and sequences left at the end", sum(left.values()), 0, "at most"),
    ]
    if not settings["quick"]:
        # A sample ends before the caches are full, so that its memory still grows as it should.
        bars += [
            Bar("growth of the cloud's memory, KB per request", memory.slope, MAX_KB_PER_REQUEST, "at most"),
            Bar("growth of its descriptors per 1,000 requests", files.slope, MAX_FILES_PER_1000, "at most"),
        ]
    delta = {name: value - soak.before.get(name, 0.0) for name, value in soak.after.items()}
    measured = {
        "endings": endings, "caches": caches, "hostile": soak.hostile, "differing": differing, "left": left,
        "seconds": soak.seconds, "slope_kb": memory.slope, "slope_error_kb": memory.standard_error,
        "files_per_1000": files.slope, "files_per_1000_error": files.standard_error,
        "resident_bytes": soak.resident[:: max(1, len(soak.resident) // 100)],
        "files": soak.files[:: max(1, len(soak.files) // 100)], "metrics": delta,
    }  # fmt: skip
    tables = [_table(soak, endings, caches, delta, memory, files)]
    return Result("soak", settings, 0, bars, tables, measured)


def _table(
    soak: Soak, endings: Counter[str], caches: Counter[str], delta: Metrics, memory: Line, files: Line
) -> Table:
    last = len(soak.resident) - 1
    ends = [(soak.resident[at][1] / 1e6, soak.files[at][1]) for at in (0, last // 2, last)]
    rows = [
        ("requests", len(soak.outcomes)),
        ("  done", endings["done"]),
        ("  cancelled by their edges", endings["left"]),
        ("  of those done, all computed", caches["miss"]),
        ("  of those done, features from the cache", caches["features"]),
        ("  of those done, answer from the cache or an equal request", caches["answer"]),
        ("hostile requests beside them, all refused", soak.hostile.total() - soak.hostile["answered"]),
        ("requests that joined an equal one", int(delta["cleave_requests_joined_total"])),
        ("prompts that began with a kept one", int(delta["cleave_prefix_hits_total"])),
        ("restarts of Redis, empty each time", soak.num_restarts),
        ("requests per second", len(soak.outcomes) / soak.seconds),
        ("resident memory at the start, at half, at the end, MB", "  ".join(f"{one[0]:.1f}" for one in ends)),
        ("  growth over the second half, KB per request", f"{memory.slope:.3f} +- {memory.standard_error:.3f}"),
        ("file descriptors at the start, at half, at the end", "  ".join(str(one[1]) for one in ends)),
        ("  growth over the second half, per 1,000 requests", f"{files.slope:.3f} +- {files.standard_error:.3f}"),
    ]  # fmt: skip
    title = f"{len(soak.outcomes)} requests from {NUM_EDGES} edges, any split point, codec and length"
    return Table(title, ("what", ""), rows)
