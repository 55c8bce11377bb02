"""The command line as real processes: what a person types, and what comes of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str

    def require_one_clear_error(self) -> str:
        """Exactly one line on standard error, and exit code 1; the line's sentence."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert self.code == 1
        assert "Traceback" not in self.out + self.err
        return lines[0].removeprefix("error: ")


@contextlib.contextmanager
def started(
    *arguments: object, cache: Path, python: Path | None = None, folder: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`cleave ARGUMENTS` of an installation, in a folder, killed at the end if it still runs."""
    command = [str(python or sys.executable), "-m", "cleave.cli", *map(str, arguments)]
    environment = {**os.environ, "CLEAVE_CACHE": str(cache)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, cwd=folder, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=LIMIT_S)
    return Ended(process.returncode, out, err)


def cleave(*arguments: object, cache: Path, python: Path | None = None, folder: Path | None = None) -> Ended:
    """Runs `cleave ARGUMENTS` to its end."""
    with started(*arguments, cache=cache, python=python, folder=folder) as process:
        return ended(process)


def cleave_each(commands: Sequence[Sequence[object]], cache: Path) -> list[Ended]:
    """Runs several at a time: starting Python costs more than what they do."""
    results = []
    for first in range(0, len(commands), 4):
        with contextlib.ExitStack() as stack:
            some = [
                stack.enter_context(started(*command, cache=cache)) for command in commands[first : first + 4]
            ]
            results += [ended(process) for process in some]
    return results
