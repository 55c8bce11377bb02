"""The overhead's two servers and their client are real, and its figures are ratios of one round."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.clouds import listening
from bench.noop import MessageMaker, make_bundle
from bench.overhead import Cost, _costs, _ratios
from wire.manifest import load_manifest
from wire.v1 import inference_pb2 as pb


def test_bundle_is_one_and_its_requests_have_the_sizes_that_are_told(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    assert load_manifest(bundle / "manifest.json").model == "noop"
    maker = MessageMaker(bundle)
    small, large = (maker.to_cloud(work, "r") for work in ("small", "large"))  # type: ignore[arg-type]
    assert (len(small.parts), len(small.payload)) == (1, 4096)
    assert (len(large.parts), len(large.payload)) == (4, 196_608)
    assert len(maker.to_echo("large", "r").parts) == 1
    chunks = [pb.Up.FromString(part).chunk.data for part in large.parts[1:]]
    assert b"".join(chunks) == large.payload


def test_figure_is_the_median_of_ratios_within_rounds() -> None:
    def reading(number: int, server: str, seconds: float) -> dict[str, object]:
        return {
            "round": number, "server": server, "work": "small", "alone_s": [seconds], "alone_cpu_s": seconds,
            "together_per_s": 1 / seconds, "together_cpu_s": seconds,
        }  # fmt: skip

    # The machine was four times slower in the second round: no ratio shows it.
    costs = _costs(
        [reading(n, server, n * s) for n in (1, 4, 2) for server, s in (("cleave", 2.0), ("echo", 1.0))]
    )
    assert _ratios("cleave", "small", costs) == (2.0, 0.5, 2.0)
    assert costs["echo", "small"][2] == Cost(4000.0, 4000.0, 0.25, 4000.0)


@pytest.mark.slow
def test_both_servers_answer_the_client_in_turns(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    with (
        listening("bench.programs.noop_cloud", str(bundle), '{"cache_bytes": 0}') as cloud,
        listening("bench.programs.echo") as echo,
    ):
        servers = [
            {"name": "cleave", "address": cloud.address, "pid": cloud.pid, "is_echo": False, "pool": 2},
            {"name": "echo", "address": echo.address, "pid": echo.pid, "is_echo": True, "pool": 2},
        ]
        told = {
            "servers": servers, "bundle": str(bundle), "works": ["small", "large"], "rounds": 1, "clients": 2,
            "counts": {"small": [4, 8], "large": [4, 8]},
        }  # fmt: skip
        command = [sys.executable, "-m", "bench.programs.noop_client", json.dumps(told)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    readings = json.loads(ended.stdout.splitlines()[-1])["readings"]
    assert {(one["server"], one["work"]) for one in readings} == {
        (server, work) for server in ("cleave", "echo") for work in ("small", "large")
    }
    assert all(one["together_per_s"] > 0 and len(one["alone_s"]) == 4 for one in readings)
