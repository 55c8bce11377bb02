"""What the edge costs a device: modules, memory beyond the weights, time to the first answer, installed size."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.report import Bar, Result, Table
from cleave.assets import assets_folder, resolve_model
from cleave.processes import cloud_process
from cleave.terminal import Report
from edge_node.blocking import EdgeNode
from wire.errors import Unavailable

MAX_RESIDENT_MB = 150.0
MAX_TIME_RATIO = 1 / 3
_FULL, _QUICK = 7, 2
_TIMEOUT_S = 120.0
_QUESTION = "How many things are there?"
_FORBIDDEN = ("torch", "transformers", "splitmodel", "cloud_node", "partitioner", "onnx", "sklearn")


@dataclass(frozen=True, slots=True)
class Run:
    """One whole process, from its start to its first answer."""

    seconds: float
    told: dict[str, Any]


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Runs both programs in turn against one cloud, each with the head already on disk."""
    checkpoint = resolve_model("default")
    image = str(next((assets_folder() / "samples").glob("*.png")))
    rounds = _QUICK if quick else _FULL
    with (
        tempfile.TemporaryDirectory(prefix="cleave-footprint-") as cache,
        cloud_process(checkpoint, None) as (address, _),
    ):
        weights, last = _head_size(address, Path(cache) / "bundles")
        arguments = [address, image, _QUESTION, str(last)]
        light, heavy = [], []
        for index in range(rounds + 1):
            light.append(_run("edge", arguments, cache))
            heavy.append(_run("edge_torch", [*arguments, checkpoint], cache))
            progress("runs", index, rounds)
    return _result(light[1:], heavy[1:], weights, quick=quick)  # the first of each warmed the disk


def _result(light: list[Run], heavy: list[Run], weights: int, *, quick: bool) -> Result:
    if {one.told["text"] for one in light} != {one.told["text"] for one in heavy}:
        raise Unavailable(
            "the two programs gave different answers, so comparing their times would mean nothing"
        )
    resident = max(one.told["resident_bytes"] for one in light)
    beyond_mb = (resident - weights) / 1e6
    ratios = [a.seconds / b.seconds for a, b in zip(light, heavy, strict=True)]
    unwanted = sorted(set(light[0].told["packages"]) & set(_FORBIDDEN))
    sizes = installed_bytes("cleave", ("edge",))
    bars = [
        Bar("packages of the cloud half imported on the edge", len(unwanted), 0, "at most"),
        Bar("resident memory beyond the weights, MB", beyond_mb, MAX_RESIDENT_MB, "at most"),
        Bar(
            "start to first answer, against torch + transformers",
            statistics.median(ratios),
            MAX_TIME_RATIO,
            "at most",
        ),
    ]
    measured = {
        "weights_bytes": weights,
        "resident_bytes": resident,
        "ratios": ratios,
        "packages": light[0].told["packages"],
        "installed_bytes": sizes,
    }
    settings = {"quick": quick, "runs": len(light)}
    return Result("footprint", settings, 0, bars, _tables(light, heavy, sizes), measured)


def _tables(light: list[Run], heavy: list[Run], sizes: dict[str, int]) -> list[Table]:
    rows: list[tuple[object, ...]] = [
        (name, statistics.median(one.seconds for one in runs), max(one.told["resident_bytes"] for one in runs) / 1e6,
         len(runs[0].told["packages"]))
        for name, runs in (("edge node", light), ("the same with torch", heavy))
    ]  # fmt: skip
    return [
        Table("one process, start to first answer", ("program", "seconds (median)", "resident MB", "packages"), rows),
        Table(
            "installed by the edge extra",
            ("package", "MB"),
            [*((name, size / 1e6) for name, size in sorted(sizes.items(), key=lambda item: -item[1])),
             ("all", sum(sizes.values()) / 1e6)],
        ),
    ]  # fmt: skip


def _head_size(address: str, bundles: Path) -> tuple[int, int]:
    """Fetches the whole head; its bytes on disk, and the last split point."""
    with EdgeNode(address, bundles=bundles) as edge:
        points = edge.describe().models[0].chains[0].split_points
        image = next((assets_folder() / "samples").glob("*.png"))
        edge.ask(_QUESTION, image, split=len(points) - 1, codec="raw").text()
    return sum(path.stat().st_size for path in bundles.rglob("*.onnx")), len(points) - 1


def _run(program: str, arguments: list[str], cache: str) -> Run:
    command = [sys.executable, "-m", f"bench.programs.{program}", *arguments]
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, env={**os.environ, "CLEAVE_CACHE": cache}
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise Unavailable(f"{program} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return Run(seconds, json.loads(done.stdout))


def installed_bytes(distribution: str, extras: tuple[str, ...]) -> dict[str, int]:
    """Bytes on disk of a distribution's requirements under these extras, and of theirs; itself left out."""
    sizes: dict[str, int] = {}
    pending = [Requirement(f"{distribution}[{','.join(extras)}]")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        wanted = pending.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        found = metadata.distribution(wanted.name)
        if wanted.name != distribution:
            located = (Path(str(found.locate_file(file))) for file in found.files or ())
            sizes[key[0]] = sum(path.stat().st_size for path in located if path.is_file())
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (wanted.extras or {""})
            ):
                pending.append(requirement)
    return sizes
