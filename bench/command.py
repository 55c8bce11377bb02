"""`cleave bench`: finds the experiment, runs it, prints its tables, writes its results file."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from bench.report import Result, write
from cleave.terminal import print_table, progress_bars
from wire.errors import BadInput

NAMES = (
    *("exact", "footprint", "accuracy", "batch", "repeat", "mixed-split", "soak"),
    *("coverage", "speech", "retrieval", "overhead", "overload", "faults"),
)


def run_benchmark(name: str, *, quick: bool, data: Path | None, as_json: bool) -> bool:
    """True where every bar was kept."""
    if name not in NAMES:
        raise BadInput(f"there is no benchmark {name!r}; choose one of {', '.join(NAMES)}")
    with progress_bars() as progress:
        result: Result = importlib.import_module(f"bench.{name.replace('-', '_')}").run(
            quick=quick, data=data, progress=progress
        )
    path = write(result)
    if as_json:
        print(json.dumps(result.to_dict()))
        return result.is_ok
    for table in result.tables:
        print_table(table.title, table.columns, table.rows)
    rows = [
        (bar.name, f"{bar.value:.4g}", f"{bar.sense} {bar.bound:g}", "ok" if bar.is_ok else "MISSED")
        for bar in result.bars
    ]
    print_table("bars", ("bar", "measured", "bound", ""), rows)
    print(f"written to {path}")
    return result.is_ok
