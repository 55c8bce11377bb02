"""Which of the engine's threads does what: nobody is woken for nothing, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence as Values
from typing import Any

from cloud_node.asked.sequence import Event, Finished, Sequence, TextDelta
from cloud_node.engine.engine import Engine, EngineSettings
from tests.kit.clouds import FakePrompt, FakeRunner, request_of, settle, until
from tests.kit.unobserved import Unobserved
from wire.errors import Cancelled, CleaveError


class WatchedRunner(FakeRunner):
    """Knows which thread prepared and which read, and that nobody ever prepared while another did."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared_by: dict[str, str] = {}
        self.read_by: dict[str, str] = {}
        self._preparing = threading.Lock()
        self.was_alone = True

    def prepare(self, sequences: Values[Sequence]) -> list[Exception | None]:
        self.was_alone &= self._preparing.acquire(blocking=False)
        for sequence in sequences:
            self.prepared_by[sequence.request.prompt] = threading.current_thread().name
        outcomes = super().prepare(sequences)
        self._preparing.release()
        return outcomes

    def read(self, prompt: FakePrompt, row: int, start: int, stop: int) -> Any:
        self.read_by[" ".join(prompt.words)] = threading.current_thread().name
        return super().read(prompt, row, start, stop)


def asked(engine: Engine, prompt: str) -> tuple[Sequence, list[Event]]:
    events: list[Event] = []
    sequence = Sequence(request_of(prompt), (memoryview(b""),), events.append)
    engine.submit(sequence)
    return sequence, events


def has_ended(events: list[Event]) -> bool:
    return bool(events) and not isinstance(events[-1], TextDelta)


def test_one_thread_does_all_for_a_request_that_comes_alone_and_two_share_where_one_runs() -> None:
    runner = WatchedRunner()

    async def run() -> None:
        engine = Engine(runner, EngineSettings(num_slots=2, tell_every_s=0), Unobserved())
        _, first = asked(engine, "hold")
        await until(lambda: bool(first))
        # While the first one's step is under way.
        _, second = asked(engine, "second")
        await until(lambda: "second" in runner.prepared)
        runner.release.set()
        await until(lambda: has_ended(first) and has_ended(second))
        await engine.close()

    settle(run())
    assert runner.prepared_by == {"hold": "step", "second": "prepare"}
    assert runner.read_by == {"hold": "step", "second": "step"}


def test_whatever_order_requests_come_and_go_in_each_ends_and_one_is_prepared_at_a_time() -> None:
    runner, draw = WatchedRunner(), random.Random(7)
    runner.release.set()

    async def run() -> None:
        engine = Engine(runner, EngineSettings(num_slots=3, max_queue=400, tell_every_s=0), Unobserved())
        every: list[list[Event]] = []
        for number in range(300):
            word = "unprepared" if draw.random() < 0.1 else f"word{number}"
            sequence, events = asked(engine, word)
            every.append(events)
            if draw.random() < 0.3:
                engine.stop(sequence, Cancelled("gone"))
            for _ in range(draw.choice((0, 0, 1, 30))):
                await asyncio.sleep(0)
            if draw.random() < 0.1:
                await until(lambda: all(map(has_ended, every)))
        await until(lambda: all(map(has_ended, every)))
        assert all(isinstance(events[-1], Finished | CleaveError) for events in every)
        assert sum(isinstance(events[-1], Finished) for events in every) > 100
        assert (engine.num_open, engine.num_running) == (0, 0)
        await engine.close()

    settle(run())
    assert runner.was_alone
