"""Faults inside a process, told to it by the environment: a clock that jumps, a model that is slow or raises."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import msgspec

SABOTAGED = "bench.programs.sabotaged"
VARIABLE = "CLEAVE_BENCH_SABOTAGE"


@dataclass(frozen=True, slots=True)
class Sabotage:
    """What `bench.programs.sabotaged` does to the process it is."""

    clock_file: str = ""  # seconds by which the wall clock is wrong, read at each look at the clock
    step_s: float = 0.0  # how much longer each step of the batch takes
    fails_on: str = ""  # a word of a prompt, whose request's tail raises


@contextlib.contextmanager
def told(sabotage: Sabotage | None) -> Iterator[None]:
    """Processes that are started meanwhile do this."""
    if sabotage is not None:
        os.environ[VARIABLE] = msgspec.json.encode(asdict(sabotage)).decode()
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def from_environment() -> Sabotage:
    """What this process was told."""
    return msgspec.json.decode(os.environ[VARIABLE], type=Sabotage)
