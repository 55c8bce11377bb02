"""What every experiment hands in: one table, one JSON with its bars, and an exit code that tells whether they held."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("cleave", "torch", "transformers", "onnxruntime", "grpcio", "numpy")


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value and the bound that it has to keep."""

    name: str
    value: float
    bound: float
    sense: Literal["at least", "at most"]

    @property
    def is_ok(self) -> bool:
        return self.value >= self.bound if self.sense == "at least" else self.value <= self.bound

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.is_ok}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain values under columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one experiment."""

    name: str
    settings: dict[str, Any]
    seed: int
    bars: Sequence[Bar]
    tables: Sequence[Table]
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return all(bar.is_ok for bar in self.bars)

    def to_dict(self) -> dict[str, Any]:
        """What goes into the results file."""
        return {
            "name": self.name,
            "ok": self.is_ok,
            "machine": machine(),
            "versions": {package: metadata.version(package) for package in _PACKAGES},
            "seed": self.seed,
            "settings": self.settings,
            "bars": [bar.to_dict() for bar in self.bars],
            "measured": self.measured,
        }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "processor": _processor(),
    }


def write(result: Result, folder: Path = RESULTS) -> Path:
    """Writes NAME.json, or NAME-quick.json for a sample, so that a sample never replaces the full run's figures."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "-quick" if result.settings.get("quick") else ""
    path = folder / f"{result.name}{suffix}.json"
    path.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    return path


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
