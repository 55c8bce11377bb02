"""How fast a batch decodes: the bare loop, the runner and the whole service, in turns; and where a step's time goes."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.clouds import cloud
from bench.load import Job, JobMaker, at_once, edges, in_turn, steady_tokens_per_s, tokens_per_s
from bench.loops import BareLoop, RunnerLoop
from bench.profiling import profiled_runner
from bench.subjects import Subject
from cloud_node.asked.served import Served
from cloud_node.model.runner import ModelRunner, Room
from cloud_node.model.serving import serve
from splitmodel.loading import Checkpoint, load
from training.evaluate import held_out_samples

NUM_SLOTS = 32
_BLOCK = 16  # steps of one loop before the other has its turn
_QUESTION = "What is in the picture?"  # of all requests, so that all prompts have one length


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured of one subject."""

    row_counts: Sequence[int]
    num_tokens: int  # forced, of each request
    num_rounds: int
    num_alone: int  # requests that are asked one at a time
    profile_tokens: int  # of each request in the profiled pass; 0: no such pass
    has_free: bool  # whether the loops run without the floor on the length, too


@dataclass(slots=True)
class Speeds:
    """Tokens per second of one batch size, one value per round."""

    bare: list[float] = field(default_factory=list)
    runner: list[float] = field(default_factory=list)
    runner_free: list[float] = field(default_factory=list)  # without the floor on the length
    bare_free: list[float] = field(default_factory=list)  # beside it
    service: list[float] = field(default_factory=list)  # one stream per request
    one_stream: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Gain:
    """Tokens per second of 8 requests at once and of one at a time, one value per round."""

    at_once: list[float] = field(default_factory=list)  # prompts included
    one_by_one: list[float] = field(default_factory=list)
    at_once_steady: list[float] = field(default_factory=list)  # prompts excluded
    one_by_one_steady: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """One subject's."""

    speeds: dict[int, Speeds]
    gain: Gain
    runner_ms: dict[int, dict[str, float]]  # by rows and part
    service_ms: dict[int, dict[str, float]]


class Bench:
    """One subject, in this process and in a cloud process."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._plan = plan
        self._threads = subject.num_threads
        torch.set_num_threads(self._threads)
        self._checkpoint: Checkpoint = load(str(subject.checkpoint))
        served, runner = serve(self._checkpoint, subject.bundle, room=Room(num_slots=NUM_SLOTS))
        assert isinstance(runner, ModelRunner), "its decoder batches"
        self._served: Served = served
        self._runner: ModelRunner = runner
        self._maker = JobMaker(subject.bundle)
        self._pictures = [sample.image for sample in held_out_samples(4 * NUM_SLOTS)][::4]

    def jobs(self, num_rows: int, num_tokens: int, *, is_forced: bool = True) -> list[Job]:
        """Distinct pictures at split points all over the chain."""
        at_least = num_tokens if is_forced else None
        return [
            self._maker.job(
                self._pictures[row],
                _QUESTION,
                row % self._maker.num_split_points,
                max_new_tokens=num_tokens,
                min_new_tokens=at_least,
            )
            for row in range(num_rows)
        ]

    def loops(self, num_rows: int, *, is_forced: bool = True) -> tuple[float, float]:
        """Tokens per second of the bare loop and of the runner, a block of steps of the one, then of the other."""
        torch.set_num_threads(self._threads)
        jobs = self.jobs(num_rows, self._plan.num_tokens, is_forced=is_forced)
        runner = RunnerLoop(self._runner, self._served, jobs)
        bare = BareLoop(self._checkpoint.model, num_rows, runner.prompt_tokens)
        left, bare_s, runner_s = self._plan.num_tokens - 1, 0.0, 0.0
        num_steps = left
        while left:
            count = min(_BLOCK, left)
            bare_s += bare.steps(count)
            runner_s += runner.steps(count)
            left -= count
        return num_rows * num_steps / bare_s, num_rows * num_steps / runner_s

    def runner_ms(self, num_rows: int) -> dict[str, float]:
        """Milliseconds per step of the runner by part, and of the bare loop beside it."""
        torch.set_num_threads(self._threads)
        runner = RunnerLoop(self._runner, self._served, self.jobs(num_rows, self._plan.num_tokens))
        bare = BareLoop(self._checkpoint.model, num_rows, runner.prompt_tokens)
        bare_s = 0.0
        blocks = max(1, self._plan.profile_tokens // _BLOCK)
        with profiled_runner() as parts:
            for _ in range(blocks):
                bare_s += bare.steps(_BLOCK)
                runner.steps(_BLOCK)
        steps = blocks * _BLOCK
        return {"bare": 1e3 * bare_s / steps, **{k: 1e3 * v / steps for k, v in parts.seconds.items()}}


def measure_speed(subject: Subject, folder: Path, plan: Plan) -> Measured:
    """All of one subject; the profile is a pass of its own, since timers cost time."""
    bench = Bench(subject, plan)
    with cloud(subject, num_slots=NUM_SLOTS, cache_bytes=0, prefix_bytes=0) as node:
        speeds, gain = asyncio.run(_rounds(bench, node.address, plan))
    runner_ms, service_ms = _profiles(bench, subject, folder, plan) if plan.profile_tokens else ({}, {})
    return Measured(speeds, gain, runner_ms, service_ms)


def _profiles(
    bench: Bench, subject: Subject, folder: Path, plan: Plan
) -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
    profile = folder / f"{subject.name}-profile.json"
    with cloud(
        subject, num_slots=NUM_SLOTS, cache_bytes=0, prefix_bytes=0, profile=profile,
        profiled_rows=plan.row_counts,
    ) as node:  # fmt: skip
        asyncio.run(_profile(bench, node.address, plan))
    service_ms = {int(rows): parts for rows, parts in json.loads(profile.read_text()).items()}
    runner_ms = {rows: bench.runner_ms(rows) for rows in plan.row_counts}
    return runner_ms, service_ms


async def _rounds(bench: Bench, address: str, plan: Plan) -> tuple[dict[int, Speeds], Gain]:
    """Everything once per round, so that what else the machine does meets all alike."""
    speeds = {rows: Speeds() for rows in plan.row_counts}
    gain = Gain()
    async with edges(address, NUM_SLOTS) as links:
        await at_once(links, bench.jobs(8, 8), "warm")
        for number in range(plan.num_rounds):
            for rows, speed in speeds.items():
                jobs = bench.jobs(rows, plan.num_tokens)
                bare, runner = bench.loops(rows)
                speed.bare.append(bare)
                speed.runner.append(runner)
                own = await at_once(links[:rows], jobs, f"own-{rows}-{number}")
                speed.service.append(steady_tokens_per_s(own))
                one = await at_once(links[:1], jobs, f"one-{rows}-{number}")
                speed.one_stream.append(steady_tokens_per_s(one))
                if plan.has_free:
                    bare, runner = bench.loops(rows, is_forced=False)
                    speed.bare_free.append(bare)
                    speed.runner_free.append(runner)
                if rows == 8:
                    gain.at_once.append(tokens_per_s(own))
                    gain.at_once_steady.append(speed.service[-1])
            alone = await in_turn(links[0], bench.jobs(plan.num_alone, plan.num_tokens), f"alone-{number}")
            gain.one_by_one.append(tokens_per_s(alone))
            gain.one_by_one_steady.append(statistics.median(steady_tokens_per_s([one]) for one in alone))
    return speeds, gain


async def _profile(bench: Bench, address: str, plan: Plan) -> None:
    async with edges(address, NUM_SLOTS) as links:
        for rows in plan.row_counts:
            await at_once(links[:rows], bench.jobs(rows, plan.profile_tokens), f"profile-{rows}")


def parts_of(runner: dict[str, float], service: dict[str, float]) -> dict[str, tuple[Any, Any]]:
    """Milliseconds per step by part, of the runner alone and of the service; parts exclude one another."""

    def inside(ms: dict[str, float]) -> dict[str, float]:
        forward, sampling = ms["forward"], ms["sampling"]
        return {
            "forward": forward,
            "sampling": sampling,
            "inputs and masks": ms["runner"] - forward - sampling,
        }

    alone, whole = inside(runner), inside(service)
    parts: dict[str, tuple[Any, Any]] = {name: (alone[name], whole[name]) for name in alone}
    step, decode, flush = service["step"], service["decode"], service["flush"]
    parts["text"] = ("", service["text"])
    parts["events"] = ("", decode - service["runner"] - service["text"])
    parts["handing over to the loop"] = ("", flush)
    parts["scheduling and between steps"] = ("", step - decode - flush + service["between"])
    parts["all of a step"] = (runner["runner"], step + service["between"])
    return parts
