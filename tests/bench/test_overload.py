"""What the overload benchmark counts: in time, refused, in vain; and that each of its bars can fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.load import Outcome
from bench.overload import Level, bars_of, level_of
from bench.overload_plot import plot


def outcome(ending: str, took_s: float) -> Outcome:
    return Outcome("r", sent_s=1.0, ended_s=1.0 + took_s, ending=ending)


def level(*outcomes: Outcome) -> Level:
    return level_of(outcomes, 3.0, 2.0, deadline_s=1.0)


def good(num_in_time: int = 10) -> Level:
    refused = [outcome("overloaded", 0.01)] * 20
    return level(*[outcome("done", 0.5)] * num_in_time, *refused)


def missed(levels: Sequence[Level]) -> list[str]:
    return [bar.name for bar in bars_of(levels) if not bar.is_ok]


def test_answer_after_the_deadline_is_no_goodput() -> None:
    one = level(
        outcome("done", 0.9), outcome("done", 1.1), outcome("overloaded", 0.1), outcome("deadline_exceeded", 1.0),
        outcome("internal", 0.1),
    )  # fmt: skip
    assert (one.num_in_time, one.num_refused, one.num_in_vain, one.num_other) == (1, 1, 2, 1)
    assert (one.offered, one.goodput, one.vain_part) == (2.5, 0.5, pytest.approx(2 / 3))


def test_level_that_keeps_every_bar_keeps_them() -> None:
    assert missed([good(), good(9)]) == []


@pytest.mark.parametrize(
    ("last", "bar"),
    [
        (good(8), "goodput"),
        (replace(good(), refusal_s=0.03), "refusal"),
        (replace(good(), num_in_vain=2), "late or out of time"),
        (replace(good(), num_other=1), "otherwise"),
    ],
)
def test_each_bar_can_fail(last: Level, bar: str) -> None:
    (name,) = missed([good(), last])
    assert bar in name


@pytest.mark.slow
def test_plot_is_a_picture(tmp_path: Path) -> None:
    path = plot([good(5), good()], [good(1)], 4.0, tmp_path / "plot.png")
    assert path.read_bytes().startswith(b"\x89PNG")
