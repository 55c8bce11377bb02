"""What a cloud's metrics say, as plain numbers; and a straight line through measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Metrics = Mapping[str, float]


def read_metrics(exposition: str) -> Metrics:
    """Every sample's value by name, added up over labels; bounds of histograms are left out."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values


def mean_between(before: Metrics, after: Metrics, name: str) -> float:
    """The mean of a histogram's values that came between two readings; not a number where none did."""
    count = after[f"{name}_count"] - before[f"{name}_count"]
    return (after[f"{name}_sum"] - before[f"{name}_sum"]) / count if count else float("nan")


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares: the slope and its standard error."""

    slope: float
    standard_error: float


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """Through at least three (x, y); the error takes the residuals as independent."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residual = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return Line(slope, (residual / (count - 2) / spread) ** 0.5)
