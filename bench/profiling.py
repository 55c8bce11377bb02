"""Where a step's time goes: timers around the parts of the engine, put there from outside, and CPU clocks of threads.

Times are inclusive of the parts inside: the tables subtract.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cloud_node.engine.batch import RunningBatch
from cloud_node.engine.engine import Engine
from cloud_node.engine.telling import Telling
from cloud_node.model import runner as runner_module
from cloud_node.model.answer_text import AnswerText
from cloud_node.model.runner import ModelRunner
from splitmodel.decoder import Decoder

_RUNNER_PARTS: list[tuple[str, Any, str]] = [
    ("runner", ModelRunner, "step"),
    ("forward", Decoder, "run"),
    ("sampling", runner_module, "choose"),
]
_STEP_PARTS: list[tuple[str, Any, str]] = [
    ("step", RunningBatch, "step"),
    ("decode", RunningBatch, "_decode"),
    ("flush", Telling, "flush"),
    ("text", AnswerText, "push"),
    *_RUNNER_PARTS,
]


class Parts:
    """Seconds by part, added up over calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        seconds = self.seconds

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - started

        return wrapper


@contextlib.contextmanager
def profiled_runner() -> Iterator[Parts]:
    """Times the runner's parts in this process, for as long as it is open."""
    parts = Parts()
    originals = [(owner, name, getattr(owner, name)) for _, owner, name in _RUNNER_PARTS]
    for part, owner, name in _RUNNER_PARTS:
        setattr(owner, name, parts.timed(part, getattr(owner, name)))
    try:
        yield parts
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


class ServiceProfile:
    """Of a cloud's steps with given numbers of rows, each directly after another such; installed once, for good."""

    def __init__(self, row_counts: Sequence[int]) -> None:
        self._totals: dict[int, defaultdict[str, float]] = {count: defaultdict(float) for count in row_counts}
        self._parts = Parts()
        self._loop_parts = Parts()
        self._rows = 0
        self._last_rows = 0
        self._clocks: dict[str, float] = {}
        self._last_end = 0.0

    def install(self) -> None:
        for part, owner, name in _STEP_PARTS:
            setattr(owner, name, self._parts.timed(part, getattr(owner, name)))
        setattr(Engine, "_deliver", self._loop_parts.timed("deliver", Engine._deliver))  # noqa: B010
        step, runner_step = RunningBatch.step, ModelRunner.step

        def counted(owner: ModelRunner, prompts: Any, first_row: int = 0) -> Any:
            self._rows = len(prompts)
            return runner_step(owner, prompts, first_row)

        def watched(batch: RunningBatch) -> None:
            self._rows = 0
            before = dict(self._parts.seconds)
            started = time.perf_counter()
            step(batch)
            self._note(before, started)

        ModelRunner.step = counted  # type: ignore[method-assign, assignment]
        RunningBatch.step = watched  # type: ignore[method-assign, assignment]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """By number of rows: the number of steps, and milliseconds per step."""
        return {
            str(rows): {
                name: value if name == "steps" else 1e3 * value / totals["steps"]
                for name, value in totals.items()
            }
            for rows, totals in self._totals.items()
        }

    def _note(self, before: dict[str, float], started: float) -> None:
        """The first of a run of steps with as many rows only starts the clocks."""
        clocks = self._read_clocks()
        totals = self._totals.get(self._rows)
        if totals is not None and self._rows == self._last_rows:
            totals["steps"] += 1
            totals["between"] += started - self._last_end
            for name, seconds in self._parts.seconds.items():
                totals[name] += seconds - before.get(name, 0.0)
            for name, value in clocks.items():
                totals[name] += value - self._clocks[name]
        self._clocks, self._last_rows = clocks, self._rows
        self._last_end = time.perf_counter()

    def _read_clocks(self) -> dict[str, float]:
        """CPU seconds so far: of the loop's thread, of the step's, of the whole process; and inside `_deliver`."""
        main = threading.main_thread().ident
        assert main is not None
        return {
            "cpu_loop": time.clock_gettime(time.pthread_getcpuclockid(main)),
            "cpu_step": time.thread_time(),
            "cpu_all": time.process_time(),
            "deliver": self._loop_parts.seconds["deliver"],
        }
