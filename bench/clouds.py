"""Cloud nodes as processes of their own, with every setting open to an experiment; and what can be seen of them."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.subjects import Subject
from wire.errors import Unavailable

_READY = "listening on "
_START_S, _END_S = 120.0, 30.0


@dataclass(frozen=True, slots=True)
class CloudProcess:
    """One that listens."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds of processor time that it took so far: user and system (proc(5))."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """VmRSS (proc(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024

    def num_files(self) -> int:
        """Its open descriptors (proc(5))."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def cloud(
    subject: Subject,
    *,
    tokens: Path | None = None,
    profile: Path | None = None,
    profiled_rows: Sequence[int] = (),
    **config: Any,
) -> Iterator[CloudProcess]:
    """Serves a subject; `config` are fields of CloudConfig, `redis` as a URL.

    When it ends, it writes each request's token ids to `tokens`, and to `profile` where the time of steps with as
    many rows as one of `profiled_rows` went (bench/profiling.py).
    """
    told: dict[str, Any] = {
        "checkpoint": str(subject.checkpoint),
        "bundle": str(subject.bundle),
        "threads": subject.num_threads,
        "tokens": str(tokens or ""),
        "profile": str(profile or ""),
        "rows": list(profiled_rows),
        "config": config,
    }
    with listening("bench.programs.cloud", json.dumps(told)) as process:
        yield process


@contextlib.contextmanager
def listening(module: str, *arguments: str) -> Iterator[CloudProcess]:
    """A program of bench/programs that says where it listens; ended at the end."""
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield CloudProcess(_address(process, errors), process.pid)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _address(process: subprocess.Popen[str], errors: IO[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + _START_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            if line.startswith(_READY):
                return line.removeprefix(_READY).strip()
            if not line:
                break
    errors.seek(0)
    last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
    raise Unavailable(f"the cloud node did not start: {last}")
