"""Child processes of ours: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from wire.errors import Unavailable

_READY = "listening on "
_END_TIMEOUT_S = 10.0


@contextlib.contextmanager
def cloud_process(
    model: str, bundle: Path | None, *arguments: str, timeout_s: float = 120.0
) -> Iterator[tuple[str, int]]:
    """A cloud node on a free port of loopback: its address and process id. Ends it with SIGTERM."""
    command = ["cloud", "--model", model, "--listen", "127.0.0.1:0", *arguments]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    with child(command) as process:
        yield _address(process, timeout_s), process.pid


@contextlib.contextmanager
def child(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """`cleave ARGUMENTS` in a process of its own, its standard output a pipe."""
    command = [sys.executable, "-m", "cleave.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _address(process: subprocess.Popen[str], timeout_s: float) -> str:
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
    _, errors = process.communicate()
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    raise Unavailable(f"the cloud node did not start: {last}")
