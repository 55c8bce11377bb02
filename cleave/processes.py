"""Child processes of ours: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from wire.errors import Unavailable

PROGRAM = "cleave.cli"
_READY = "listening on "
_END_TIMEOUT_S = 10.0


@contextlib.contextmanager
def cloud_process(
    model: str, bundle: Path | None, *arguments: str, timeout_s: float = 120.0, program: str = PROGRAM
) -> Iterator[tuple[str, int]]:
    """A cloud node on a free port of loopback: its address and process id. Ends it with SIGTERM."""
    command = ["cloud", "--model", model, "--listen", "127.0.0.1:0", *arguments]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    with child(command, program) as (process, errors):
        yield _address(process, errors, timeout_s), process.pid


@contextlib.contextmanager
def child(
    arguments: Sequence[str], program: str = PROGRAM
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """`cleave ARGUMENTS` in a process of its own: its standard output a pipe, its standard error a file."""
    command = [sys.executable, "-m", program, *arguments]
    # A pipe that nobody reads would fill with the log, and then hold the process up.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield process, errors
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _address(process: subprocess.Popen[str], errors: IO[str], timeout_s: float) -> str:
    """Waits for the line that says where it listens; raises Unavailable where it ends or says nothing."""
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            if line.startswith(_READY):
                return line.removeprefix(_READY).strip()
            if not line:
                break
    process.kill()
    process.wait()
    errors.seek(0)
    last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
    raise Unavailable(f"the cloud node did not start: {last}")
