"""Sequences that come and go at different times, some of them badly: do the others say what they say alone?"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from bench.clouds import cloud
from bench.load import Job, JobMaker, Outcome, at_once, edges, in_turn
from bench.subjects import Subject
from training.evaluate import held_out_samples
from wire.v1 import inference_pb2 as pb

NUM_SEQUENCES = 16
LEAVES, FAILS, EXPIRES = 5, 9, 12  # which of them ends badly
_MEANT = {LEAVES: "left", FAILS: "model_failed", EXPIRES: "deadline_exceeded"}


@dataclass(frozen=True, slots=True)
class Exactness:
    """What the rounds showed, together."""

    num_rounds: int
    num_compared: int
    num_equal: int
    num_tokens: int
    num_badly_meant: int  # that ended as they were meant to
    most_at_once: int
    differing: list[dict[str, Any]]


def measure_exactness(subject: Subject, folder: Path, num_rounds: int, pace_s: float, seed: int) -> Exactness:
    """`pace_s` is the mean time between two arrivals; token ids are compared, and texts."""
    maker = JobMaker(subject.bundle)
    rounds = [_jobs(maker, pace_s, random.Random(seed + index)) for index in range(num_rounds)]
    tokens = folder / f"{subject.name}-tokens.json"
    with cloud(subject, tokens=tokens, num_slots=NUM_SEQUENCES, cache_bytes=0, prefix_bytes=0) as node:
        results = asyncio.run(_run(node.address, rounds))
    return compare(results, json.loads(tokens.read_text()))


def _jobs(maker: JobMaker, pace_s: float, draw: random.Random) -> list[Job]:
    """Pictures, questions, split points, lengths, times and ways of choosing all differ."""
    samples = list(held_out_samples(4 * NUM_SEQUENCES))[::4]
    splits = draw.sample(range(maker.num_split_points), min(NUM_SEQUENCES, maker.num_split_points))
    jobs, after_s = [], 0.0
    for index, sample in enumerate(samples):
        length = draw.randrange(24, 65)
        settings: dict[str, Any] = {"max_new_tokens": length, "min_new_tokens": length}
        if index % 4 == 3:
            settings |= {"temperature": 0.8, "seed": index}
        if index in (LEAVES, EXPIRES):
            settings |= {"max_new_tokens": 250, "min_new_tokens": 250}
        job = maker.job(sample.image, sample.question, splits[index % len(splits)], **settings)
        job = replace(job, after_s=after_s)
        jobs.append(_made_bad(job, index, pace_s))
        after_s += draw.uniform(0, 2 * pace_s)
    return jobs


def _made_bad(job: Job, index: int, pace_s: float) -> Job:
    if index == LEAVES:
        return replace(job, leave_tokens=12)
    if index == EXPIRES:
        job.opening.deadline_s = 10 * pace_s
    if index == FAILS:
        payload = np.full(len(job.payloads[0]) // 4, np.nan, "<f4").tobytes()
        opening = pb.Open()
        opening.CopyFrom(job.opening)
        opening.inputs[0].crc32 = crc32(payload)
        return replace(job, opening=opening, payloads=(payload,))
    return job


async def _run(address: str, rounds: Sequence[Sequence[Job]]) -> list[tuple[list[Outcome], list[Outcome]]]:
    """Each round together, and then those of its jobs that should end well one by one."""
    results = []
    async with edges(address, NUM_SEQUENCES) as links:
        for number, jobs in enumerate(rounds):
            together = await at_once(links, jobs, f"together-{number}")
            good = [replace(job, after_s=0.0) for index, job in enumerate(jobs) if index not in _MEANT]
            results.append((together, await in_turn(links[0], good, f"alone-{number}")))
    return results


def compare(
    results: Sequence[tuple[list[Outcome], list[Outcome]]], tokens: dict[str, list[int]]
) -> Exactness:
    num_equal = num_tokens = num_badly = 0
    differing: list[dict[str, Any]] = []
    for together, alone in results:
        num_badly += sum(together[index].ending == ending for index, ending in _MEANT.items())
        good = [one for index, one in enumerate(together) if index not in _MEANT]
        for one, other in zip(good, alone, strict=True):
            ids, expected = tokens.get(one.request_id, []), tokens.get(other.request_id, [])
            is_equal = (one.ending, other.ending) == ("done", "done") and ids == expected and bool(ids)
            is_equal = is_equal and one.said == other.said
            num_equal += is_equal
            num_tokens += len(expected)
            if not is_equal:
                pairs = enumerate(zip(ids, expected, strict=False))
                first = next((at for at, (a, b) in pairs if a != b), min(len(ids), len(expected)))
                differing.append({"request": one.request_id, "ending": one.ending, "first_different": first})
    return Exactness(
        num_rounds=len(results),
        num_compared=sum(len(alone) for _, alone in results),
        num_equal=num_equal,
        num_tokens=num_tokens,
        num_badly_meant=num_badly,
        most_at_once=max(_most_at_once(together) for together, _ in results),
        differing=differing,
    )


def _most_at_once(outcomes: Sequence[Outcome]) -> int:
    """Answers under way at one time."""
    spans = [(one.arrivals[0][0], one.arrivals[-1][0]) for one in outcomes if one.arrivals]
    return max((sum(begin <= at <= end for begin, end in spans) for at, _ in spans), default=0)
