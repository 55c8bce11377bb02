"""`cleave ARGUMENTS` with faults inside the process: python -m bench.programs.sabotaged ARGUMENTS."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cleave.cli
from bench.faulty.sabotage import from_environment


def move_clock(file: Path) -> None:
    """The wall clock, as Python reads it, is wrong by what the file says at that moment."""

    def wrong(read: Callable[[], Any], unit: int) -> Callable[[], Any]:
        return lambda: read() + type(read())(float(file.read_text()) * unit)

    time.time = wrong(time.time, 1)
    time.time_ns = wrong(time.time_ns, 10**9)


def slow_down(step_s: float) -> None:
    """An answer has a middle, however small its model is."""
    from cloud_node.model.runner import ModelRunner

    step = ModelRunner.step

    def slow(self: ModelRunner, *arguments: Any, **options: Any) -> Any:
        time.sleep(step_s)
        return step(self, *arguments, **options)

    ModelRunner.step = slow  # type: ignore[method-assign]


def break_model(word: str) -> None:
    """Tails of requests whose prompt has the word raise, inside the model's own code."""
    from cloud_node.model.prepare import Preparer

    fuse = Preparer._fuse

    def failing(self: Preparer, sequence: Any, taken: Any) -> Any:
        if word in sequence.request.prompt:
            for one in taken:
                one.entries.clear()  # the chain's end is missing: what follows raises as it will
        return fuse(self, sequence, taken)

    Preparer._fuse = failing  # type: ignore[method-assign]


def main() -> None:
    sabotage = from_environment()
    if sabotage.clock_file:
        move_clock(Path(sabotage.clock_file))
    if sabotage.step_s:
        slow_down(sabotage.step_s)
    if sabotage.fails_on:
        break_model(sabotage.fails_on)
    cleave.cli.main()


if __name__ == "__main__":
    main()
