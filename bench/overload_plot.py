"""Goodput against offered load as a picture; matplotlib is loaded here alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Point(Protocol):
    """What is drawn of one load, in requests per second."""

    @property
    def offered(self) -> float: ...
    @property
    def goodput(self) -> float: ...
    @property
    def refused(self) -> float: ...
    @property
    def in_vain(self) -> float: ...  # late, or out of time


def plot(levels: Sequence[Point], unshed: Sequence[Point], sustained: float, path: Path) -> Path:
    """Writes a PNG: what becomes of what is offered, and what would of it on a cloud that refuses nobody for time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    offered = [one.offered for one in levels]
    axes.plot(offered, [one.goodput for one in levels], "o-", color="#1a7f37", label="answered in time")
    axes.plot(offered, [one.refused for one in levels], "s--", color="#57606a", label="refused at once")
    axes.plot(offered, [one.in_vain for one in levels], "v:", color="#cf222e", label="late, or out of time")
    axes.plot(
        [one.offered for one in unshed], [one.goodput for one in unshed], "x-", color="#9a6700",
        label="answered in time, without shedding",
    )  # fmt: skip
    axes.axvline(sustained, color="#afb8c1", linewidth=1)
    axes.annotate(
        "sustained", (sustained, axes.get_ylim()[1]), ha="right", va="top", rotation=90, color="#57606a"
    )
    axes.set(
        xlabel="offered, requests per second", ylabel="requests per second", xlim=(0, None), ylim=(0, None)
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.02))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return path
