"""What the service itself costs: a model that does nothing, against gRPC's own echo of the same messages.

Three processes on loopback: two servers, and one client that sends both the same bytes. Rounds take turns, and every
ratio is of one round; the figure is their median.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.clouds import CloudProcess, listening
from bench.noop import REPLY, Work, make_bundle
from bench.report import Bar, Result, Table
from cleave.terminal import Report

NUM_CLIENTS = 16
_ROUNDS = (15, 4)  # full, quick
# Requests of a round: of one client, one after the other; of all clients.
_COUNTS: dict[Work, tuple[int, int]] = {"small": (300, 1500), "large": (200, 800)}
_POOL = 32  # different requests
# Their features are more than the cache holds, so that none is found again.
_CACHED_POOL, _CACHE_BYTES = 128, 512 << 10
_TITLES: dict[Work, str] = {
    "small": "(a) 4 KiB inside the Open",
    "large": "(b) 64x768 float32 (196,608 bytes) in chunks, echo in one message",
}
# At most, at least, at most; what Triton 2.51's stream holds on (b), by the same measure elsewhere: 1.9, 0.72, 1.8.
_BARS: dict[Work, tuple[float, float, float]] = {"small": (2.0, 0.6, 2.5), "large": (3.5, 0.5, 3.0)}

ServerName = Literal["cleave", "cleave, cache on", "echo"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one server and one work in one round."""

    p50_ms: float  # one client
    cpu_alone_ms: float  # of the server, per request, one client
    per_s: float  # all clients
    cpu_ms: float

    def over(self, other: Cost) -> tuple[float, float, float]:
        """Latency, rate and CPU as ratios."""
        return self.p50_ms / other.p50_ms, self.per_s / other.per_s, self.cpu_ms / other.cpu_ms


Costs = dict[tuple[ServerName, Work], list[Cost]]  # a round each


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Both servers live through all rounds; the first round is for warming up, and counts for nothing."""
    rounds = _ROUNDS[quick]
    with tempfile.TemporaryDirectory(prefix="cleave-overhead-") as folder, ExitStack() as stack:
        bundle = make_bundle(Path(folder))
        told = [
            _told(name, stack.enter_context(listening(module, *arguments)))
            for name, module, arguments in _servers(bundle)
        ]
        costs = _costs(_measure(told, bundle, rounds, progress))
    settings: dict[str, Any] = {
        "quick": quick, "rounds": rounds, "clients": NUM_CLIENTS, "requests": _COUNTS, "reply_bytes": len(REPLY),
        "figure": "median of the rounds' ratios",
    }  # fmt: skip
    bars = [bar for work in _TITLES for bar in _bars(work, costs)]
    measured = {
        f"{name}, {work}": {
            "p50_ms": [one.p50_ms for one in some],
            "cpu_alone_ms": [one.cpu_alone_ms for one in some],
            "per_s": [one.per_s for one in some],
            "cpu_ms": [one.cpu_ms for one in some],
        }
        for (name, work), some in costs.items()
    }
    return Result("overhead", settings, 0, bars, [_table(work, costs) for work in _TITLES], measured)


def _servers(bundle: Path) -> Iterator[tuple[ServerName, str, tuple[str, ...]]]:
    """An echo keeps nothing, and so the cloud that is compared with it does not, either."""
    yield "cleave", "bench.programs.noop_cloud", (str(bundle), json.dumps({"cache_bytes": 0}))
    yield (
        "cleave, cache on",
        "bench.programs.noop_cloud",
        (str(bundle), json.dumps({"cache_bytes": _CACHE_BYTES})),
    )
    yield "echo", "bench.programs.echo", ()


def _told(name: ServerName, process: CloudProcess) -> dict[str, Any]:
    return {
        "name": name, "address": process.address, "pid": process.pid, "is_echo": name == "echo",
        "pool": _CACHED_POOL if name == "cleave, cache on" else _POOL,
    }  # fmt: skip


def _measure(
    servers: list[dict[str, Any]], bundle: Path, rounds: int, progress: Report
) -> list[dict[str, Any]]:
    """In a process of its own: a client in this one would share its time with whatever else is here."""
    told = {
        "servers": servers, "bundle": str(bundle), "works": list(_TITLES), "rounds": rounds,
        "clients": NUM_CLIENTS, "counts": _COUNTS,
    }  # fmt: skip
    command = [sys.executable, "-m", "bench.programs.noop_client", json.dumps(told)]
    readings: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if "done" in said:
                progress("rounds", said["done"], said["of"])
            else:
                readings = said["readings"]
    if process.returncode or not readings:
        raise RuntimeError(f"the client ended with {process.returncode} and {len(readings)} readings")
    return readings


def _costs(readings: list[dict[str, Any]]) -> Costs:
    costs: Costs = {}
    for reading in sorted(readings, key=lambda one: int(one["round"])):
        cost = Cost(
            p50_ms=1e3 * statistics.median(reading["alone_s"]),
            cpu_alone_ms=1e3 * reading["alone_cpu_s"],
            per_s=reading["together_per_s"],
            cpu_ms=1e3 * reading["together_cpu_s"],
        )
        costs.setdefault((reading["server"], reading["work"]), []).append(cost)
    return costs


def _ratios(name: ServerName, work: Work, costs: Costs) -> tuple[float, float, float]:
    """The medians over rounds."""
    pairs = zip(costs[name, work], costs["echo", work], strict=True)
    latency, rate, cpu = zip(*(cost.over(echo) for cost, echo in pairs), strict=True)
    return statistics.median(latency), statistics.median(rate), statistics.median(cpu)


def _bars(work: Work, costs: Costs) -> list[Bar]:
    latency, rate, cpu = _ratios("cleave", work, costs)
    most_latency, least_rate, most_cpu = _BARS[work]
    return [
        Bar(f"{work}: p50 against the echo's", latency, most_latency, "at most"),
        Bar(f"{work}: requests/s at {NUM_CLIENTS} clients against the echo's", rate, least_rate, "at least"),
        Bar(f"{work}: server CPU per request against the echo's", cpu, most_cpu, "at most"),
    ]


def _table(work: Work, costs: Costs) -> Table:
    rows: list[list[object]] = []
    names: tuple[ServerName, ...] = ("echo", "cleave", "cleave, cache on")
    for name in names:
        some = costs[name, work]
        latency, rate, cpu = _ratios(name, work, costs)
        middle = [
            statistics.median(getattr(one, what) for one in some)
            for what in ("p50_ms", "per_s", "cpu_ms", "cpu_alone_ms")
        ]
        rows.append(
            [name, *(f"{value:.3g}" for value in middle), f"{latency:.2f}", f"{rate:.2f}", f"{cpu:.2f}"]
        )
    columns = (
        "server", "p50 ms", f"requests/s, {NUM_CLIENTS} clients", "CPU ms", "CPU ms, one client", "p50 ratio",
        "rate ratio", "CPU ratio",
    )  # fmt: skip
    return Table(_TITLES[work], columns, rows)
