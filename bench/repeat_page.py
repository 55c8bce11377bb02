"""What `repeat` measured, as bars and tables: of each model and each place that the cache was in."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.report import Bar, Table
from bench.subjects import SubjectName

Kind = Literal["first", "repeated", "second", "at once", "hanging"]
Place = Literal["memory", "redis", "two clouds"]

MAX_REPEAT_BYTES, MAX_REPEAT_TIME = 2000, 0.1
# The operator's 50 ms, and what a busy machine adds before it wakes the loop.
MAX_HANGING_MS = 75.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What one question cost."""

    picture: str
    kind: Kind
    cache: str
    sent_bytes: int
    feature_bytes: int
    total_ms: float
    first_token_ms: float
    cache_ms: float  # on the cloud: looking into its cache, and waiting for another cloud
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """One round."""

    model: SubjectName
    place: Place
    asked: list[Asked]

    def of(self, kind: Kind) -> list[Asked]:
        return [one for one in self.asked if one.kind == kind]


def bars(runs: Sequence[Run]) -> list[Bar]:
    return [bar for name, ones in _by_name(runs).items() for bar in _bars(name, ones)]


def _bars(name: str, runs: Sequence[Run]) -> list[Bar]:
    repeated = _of(runs, "repeated")
    differing = sum(a.text != b.text for a, b in zip(_of(runs, "first"), repeated, strict=True))
    found = [
        Bar(f"{name}: repeated answers that differ", differing, 0, "at most"),
        Bar(f"{name}: repeated answers not from the cache", _not(repeated, "answer"), 0, "at most"),
        Bar(f"{name}: bytes sent to repeat a question, most", _most(repeated), MAX_REPEAT_BYTES, "at most"),
        Bar(
            f"{name}: time of a repeated question / the first",
            statistics.median(_ratios(runs, "repeated", "total_ms")),
            MAX_REPEAT_TIME,
            "at most",
        ),
        Bar(
            f"{name}: second questions that sent features",
            sum(one.sent_bytes > one.feature_bytes for one in _of(runs, "second")),
            0,
            "at most",
        ),
    ]
    if at_once := _of(runs, "at once"):
        pairs = list(zip(at_once[::2], at_once[1::2], strict=True))
        twice = sum("answer" not in (a.cache, b.cache) for a, b in pairs)
        differing = sum(a.text != b.text for a, b in pairs)
        found += [
            Bar(f"{name}: equal questions at one moment, computed twice", twice, 0, "at most"),
            Bar(f"{name}: their answers that differ", differing, 0, "at most"),
        ]
    if hanging := _of(runs, "hanging"):
        most = max(one.cache_ms for one in hanging)
        found.append(
            Bar(f"{name}: ms that a Redis which hangs costs a request, most", most, MAX_HANGING_MS, "at most")
        )
    return found


def tables(runs: Sequence[Run]) -> list[Table]:
    rows: list[tuple[object, ...]] = []
    ratios: list[tuple[object, ...]] = []
    for name, ones in _by_name(runs).items():
        kinds: tuple[Kind, ...] = ("first", "repeated", "second", "at once", "hanging")
        rows += [_row(name, kind, found) for kind in kinds if (found := _of(ones, kind))]
        compared: tuple[tuple[Kind, str, str], ...] = (
            ("repeated", "whole answer", "total_ms"),
            ("repeated", "first token", "first_token_ms"),
            ("second", "first token", "first_token_ms"),
        )
        for kind, what, field in compared:
            values = sorted(_ratios(ones, kind, field))
            ratios.append((name, kind, what, statistics.median(values), values[0], values[-1]))
    columns = (
        "model, cache", "question", "asked", "cloud had", "bytes sent (median)", "most", "first token, ms", "all, ms",
        "cache, ms", "most",
    )  # fmt: skip
    return [
        Table("questions about the nine sample pictures: medians", columns, rows),
        Table(
            "time against the first question about the same picture, same round",
            ("model, cache", "question", "time to", "ratio (median)", "least", "most"),
            ratios,
        ),
    ]


def _row(name: str, kind: Kind, ones: Sequence[Asked]) -> tuple[object, ...]:
    return (
        name, kind, len(ones), ", ".join(sorted({one.cache for one in ones})),
        int(statistics.median(one.sent_bytes for one in ones)), _most(ones),
        statistics.median(one.first_token_ms for one in ones),
        statistics.median(one.total_ms for one in ones),
        statistics.median(one.cache_ms for one in ones), max(one.cache_ms for one in ones),
    )  # fmt: skip


def _by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for one in runs:
        found.setdefault(f"{one.model}, {one.place}", []).append(one)
    return found


def _of(runs: Sequence[Run], kind: Kind) -> list[Asked]:
    return [one for run in runs for one in run.of(kind)]


def _not(asked: Sequence[Asked], cache: str) -> int:
    return sum(one.cache != cache for one in asked)


def _most(asked: Sequence[Asked]) -> int:
    return max(one.sent_bytes for one in asked)


def _ratios(runs: Sequence[Run], kind: Kind, field: str) -> list[float]:
    pairs: Any = zip(_of(runs, kind), _of(runs, "first"), strict=True)
    return [getattr(one, field) / getattr(first, field) for one, first in pairs]
