"""The same question again, and another one about the same picture: bytes sent and time, against the first question."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.clouds import cloud
from bench.report import Bar, Result, Table
from bench.subjects import NUM_THREADS, Subject, SubjectName, make_subject
from cleave.assets import assets_folder
from cleave.terminal import Report
from edge_node.node import AsyncEdgeNode
from edge_node.report import AnswerReport
from training.evaluate import held_out_samples

MAX_REPEAT_BYTES, MAX_REPEAT_TIME = 2000, 0.1
_SECOND_QUESTION = "Is there a blue triangle?"  # of no sample
_NUM_WARM = 4  # other pictures, asked about before the first that counts
_ROUNDS: dict[SubjectName, tuple[int, int]] = {"default": (7, 1), "100M": (3, 1)}  # full, quick
# The random model knows no end: a short answer, forced, so that its long ones flatter no ratio.
_LENGTH: dict[SubjectName, int | None] = {"default": None, "100M": 16}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one question cost."""

    picture: str
    kind: str  # "first", "repeated" or "second"
    cache: str
    sent_bytes: int
    feature_bytes: int
    total_ms: float
    first_token_ms: float
    text: str


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Every round has a cloud and an edge of its own, warmed up with other pictures."""
    asked: dict[SubjectName, list[list[Asked]]] = {}
    names: list[SubjectName] = ["default"] if quick else ["default", "100M"]
    with tempfile.TemporaryDirectory(prefix="cleave-repeat-") as folder:
        for name in names:
            subject = make_subject(name, Path(folder))
            rounds = _ROUNDS[name][quick]
            asked[name] = []
            for number in range(rounds):
                progress(name, number, rounds)
                with cloud(subject) as node:
                    asked[name].append(asyncio.run(_round(node.address, subject, Path(folder))))
            progress(name, rounds, rounds)
    settings = {
        "quick": quick,
        "rounds": {name: len(rounds) for name, rounds in asked.items()},
        "torch_threads": {name: NUM_THREADS[name] for name in asked},
        "answer_tokens": {name: _LENGTH[name] or "the model's own end" for name in asked},
        "arm": "the bundle's default one",
        "second_question": _SECOND_QUESTION,
        "value": "ratios per picture and round; their median",
    }
    measured: dict[str, Any] = {
        name: [[asdict(one) for one in each] for each in rounds] for name, rounds in asked.items()
    }
    return Result("repeat", settings, 0, _bars(asked), _tables(asked), measured)


async def _round(address: str, subject: Subject, folder: Path) -> list[Asked]:
    """Of each sample picture: its question, the same again, another one."""
    samples = assets_folder() / "samples"
    listed = json.loads((samples / "samples.json").read_text())
    length = _LENGTH[subject.name]
    questions_by_image = {entry["image"]: entry["question"] for entry in reversed(listed)}
    asked = []
    async with AsyncEdgeNode(address, bundles=folder / f"{subject.name}-edge") as edge:
        for other in list(held_out_samples(4 * _NUM_WARM))[::4]:
            for _ in range(2):
                await edge.ask(other.question, other.image, max_new_tokens=length).text()
        for image, question in sorted(questions_by_image.items()):
            questions = (("first", question), ("repeated", question), ("second", _SECOND_QUESTION))
            for kind, asking in questions:
                answer = edge.ask(asking, samples / image, max_new_tokens=length, min_new_tokens=length)
                await answer.text()
                asked.append(_asked(image, kind, answer.report))
    return asked


def _asked(picture: str, kind: str, report: AnswerReport) -> Asked:
    return Asked(
        picture=picture,
        kind=kind,
        cache=report.cache,
        sent_bytes=report.sent_bytes,
        feature_bytes=report.feature_bytes,
        total_ms=report.ms["total"],
        first_token_ms=report.ms["first_token"],
        text=report.text,
    )


def _bars(asked: dict[SubjectName, list[list[Asked]]]) -> list[Bar]:
    bars = []
    for name, rounds in asked.items():
        repeated = _of(rounds, "repeated")
        differing = sum(a.text != b.text for a, b in zip(_of(rounds, "first"), repeated, strict=True))
        misses = sum(one.cache != "answer" for one in repeated)
        most = max(one.sent_bytes for one in repeated)
        ratio = statistics.median(_ratios(rounds, "repeated", "total_ms"))
        bars += [
            Bar(f"{name}: repeated answers that differ", differing, 0, "at most"),
            Bar(f"{name}: repeated answers not from the cache", misses, 0, "at most"),
            Bar(f"{name}: bytes sent to repeat a question, most", most, MAX_REPEAT_BYTES, "at most"),
            Bar(f"{name}: time of a repeated question / the first", ratio, MAX_REPEAT_TIME, "at most"),
        ]
    return bars


def _tables(asked: dict[SubjectName, list[list[Asked]]]) -> list[Table]:
    rows: list[tuple[object, ...]] = []
    ratios: list[tuple[object, ...]] = []
    for name, rounds in asked.items():
        for kind in ("first", "repeated", "second"):
            ones = _of(rounds, kind)
            rows.append(
                (
                    name, kind, len(ones), ", ".join(sorted({one.cache for one in ones})),
                    int(statistics.median(one.sent_bytes for one in ones)), max(one.sent_bytes for one in ones),
                    statistics.median(one.first_token_ms for one in ones),
                    statistics.median(one.total_ms for one in ones),
                )
            )  # fmt: skip
        for kind, what, field in (
            ("repeated", "whole answer", "total_ms"),
            ("repeated", "first token", "first_token_ms"),
            ("second", "first token", "first_token_ms"),
        ):
            values = sorted(_ratios(rounds, kind, field))
            ratios.append((name, kind, what, statistics.median(values), values[0], values[-1]))
    columns = (
        "model",
        "question",
        "asked",
        "cloud had",
        "bytes sent (median)",
        "most",
        "first token, ms",
        "all, ms",
    )
    return [
        Table("questions about the nine sample pictures: medians", columns, rows),
        Table(
            "time against the first question about the same picture, same round",
            ("model", "question", "time to", "ratio (median)", "least", "most"),
            ratios,
        ),
    ]


def _of(rounds: Sequence[Sequence[Asked]], kind: str) -> list[Asked]:
    return [one for each in rounds for one in each if one.kind == kind]


def _ratios(rounds: Sequence[Sequence[Asked]], kind: str, field: str) -> list[float]:
    pairs: Any = zip(_of(rounds, kind), _of(rounds, "first"), strict=True)
    return [getattr(one, field) / getattr(first, field) for one, first in pairs]
