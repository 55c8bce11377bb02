"""The engine with several rows: threads that do not wait for one another, turns, counts, and its own faults."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from collections.abc import Sequence as Values
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cloud_node.asked.sequence import Event, Finished, Sequence, TextDelta
from cloud_node.engine.engine import Engine, EngineSettings
from tests.kit.clouds import LIMIT_S, SECRET, FakeRunner, request_of, settle, until
from tests.kit.unobserved import Unobserved
from wire.errors import Cancelled, CleaveError, Internal, ModelFailed

ENDLESS = "word " * 30_000


class Asked:
    """A sequence and what the engine says of it."""

    def __init__(self, prompt: str, priority: int = 0) -> None:
        self.prompt = prompt
        self.events: list[Event] = []
        request = request_of(prompt, priority=priority)
        self.sequence = Sequence(request, (memoryview(b""),), self.events.append)

    @property
    def ends(self) -> list[Event]:
        return [event for event in self.events if not isinstance(event, TextDelta)]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


@asynccontextmanager
async def running(runner: FakeRunner, **settings: Any) -> AsyncIterator[Engine]:
    engine = Engine(runner, EngineSettings(**{"num_slots": 4, "tell_every_s": 0, **settings}), Unobserved())
    try:
        yield engine
    finally:
        runner.release.set()
        await engine.close()


def submit(engine: Engine, *asked: Asked) -> None:
    for one in asked:
        engine.submit(one.sequence)


def require_idle(engine: Engine) -> None:
    assert (engine.num_open, engine.num_waiting, engine.num_running) == (0, 0, 0)
    assert not engine.batch.has_work


class SlowToPrepare(FakeRunner):
    """Whose preparing of the prompt `slow` waits for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.is_preparing, self.may_prepare = threading.Event(), threading.Event()

    def _prepare(self, sequence: Sequence) -> Exception | None:
        if sequence.request.prompt == "slow":
            self.is_preparing.set()
            assert self.may_prepare.wait(LIMIT_S)
        return super()._prepare(sequence)


def test_tokens_keep_coming_while_another_request_is_prepared() -> None:
    runner = SlowToPrepare()

    async def run() -> None:
        async with running(runner) as engine:
            talking, slow = Asked(ENDLESS), Asked("slow")
            submit(engine, talking)
            await until(lambda: len(talking.events) > 0)
            submit(engine, slow)
            await until(runner.is_preparing.is_set)
            before = len(talking.events)
            await until(lambda: len(talking.events) > before + 50)
            assert not slow.events
            runner.may_prepare.set()
            await until(lambda: slow.text == "slow ")
            engine.stop(talking.sequence, Cancelled("no longer wanted"))
            await until(lambda: not engine.batch.has_work)

    settle(run())


def test_the_urgent_one_of_those_that_wait_gets_the_row_first(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner, num_slots=1) as engine:
            first, *patient = Asked("hold"), Asked("patient 0"), Asked("patient 1", 1), Asked("patient 2", 1)
            submit(engine, first)
            await until(lambda: first.text == "hold ")
            urgent = Asked("urgent", 9)
            submit(engine, *patient, urgent)
            await until(lambda: len(engine._prepared) == 4)
            runner.release.set()
            await until(lambda: all(one.ends for one in (urgent, *patient)))
            assert runner.ran == ["hold", "urgent", "patient 1", "patient 2", "patient 0"]

    settle(run())


def test_urgent_one_waits_for_few_that_are_prepared_ahead(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner, num_slots=1, max_tail_batch=1) as engine:
            first, urgent = Asked("hold"), Asked("urgent", 9)
            submit(engine, first)
            await until(lambda: first.text == "hold ")
            patient = [Asked(f"patient {at}") for at in range(9)]
            submit(engine, *patient)
            await until(lambda: len(engine._prepared) == 2)
            submit(engine, urgent)
            runner.release.set()
            await until(lambda: all(one.ends for one in (urgent, *patient)))
            assert runner.ran.index("urgent") <= 3
            assert [prompt for prompt in runner.ran[1:] if prompt != "urgent"] == [
                one.prompt for one in patient
            ]

    settle(run())


@pytest.mark.parametrize("seed", range(8))
def test_any_mix_of_ends_leaves_nothing_and_everyone_hears_one_end(seed: int) -> None:
    runner, chance = FakeRunner(), random.Random(seed)
    kinds = ["a b c", "one", "fail", "unprepared", "d e fail f", "g h i j k l m n", "word " * 60]

    async def run() -> None:
        async with running(runner, num_slots=3, chunk_tokens=5, max_tail_batch=2) as engine:
            asked = [Asked(chance.choice(kinds), chance.randrange(10)) for _ in range(30)]
            stopped: set[Asked] = set()
            for one in asked:
                submit(engine, one)
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    victim = chance.choice(
                        [other for other in asked if other.sequence in engine._open] or [one]
                    )
                    stopped.add(victim)
                    engine.stop(victim.sequence, Cancelled("no longer wanted"))
            for one in asked:
                if len(one.prompt) > 100 and chance.random() < 0.5:
                    stopped.add(one)
                    engine.stop(one.sequence, Cancelled("no longer wanted"))
            await until(lambda: all(one.ends for one in asked))
            await until(lambda: not engine.batch.has_work)
            require_idle(engine)
            for one in asked:
                (end,) = one.ends
                assert one.events[-1] is end
                if one in stopped and isinstance(end, Cancelled):
                    continue
                if "fail" in one.prompt or one.prompt == "unprepared":
                    assert isinstance(end, ModelFailed)
                    assert SECRET not in str(end)
                else:
                    assert isinstance(end, Finished)
                    assert one.text.split() == one.prompt.split()

    settle(run())


def test_closing_with_work_in_every_state_ends_the_threads() -> None:
    others = set(threading.enumerate())
    runner = SlowToPrepare()

    async def run() -> None:
        engine = Engine(runner, EngineSettings(num_slots=2, tell_every_s=0), Unobserved())
        asked = [Asked(ENDLESS), Asked(ENDLESS), Asked("waits"), Asked("slow"), Asked("not taken up")]
        submit(engine, *asked[:3])
        await until(lambda: engine.num_running == 2)
        submit(engine, *asked[3:])
        await until(runner.is_preparing.is_set)
        closing = asyncio.ensure_future(engine.close())
        await asyncio.sleep(0)
        runner.may_prepare.set()
        await closing
        assert engine.num_open == 0
        assert all(isinstance(one.sequence.stopped_by, CleaveError) for one in asked)
        assert not [thread for thread in threading.enumerate() if thread in engine._threads]

    settle(run())
    assert not [one for one in set(threading.enumerate()) - others if one.name in ("prepare", "step")]


def raise_once(engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The next call of the scheduler's method raises what holds user data."""
    scheduler = engine.batch._scheduler
    original, calls = getattr(scheduler, name), []

    def raising(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise KeyError(SECRET)
        return original(*args)

    monkeypatch.setattr(scheduler, name, raising)


@pytest.mark.parametrize("name", ["admit", "next_chunk"])
def test_unforeseen_error_of_the_scheduler_ends_all_and_the_engine_goes_on(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def run() -> None:
        async with running(runner, num_slots=2) as engine:
            asked = [Asked(ENDLESS), Asked(ENDLESS), Asked("waits for a row")]
            submit(engine, *asked)
            await until(lambda: engine.batch.num_waiting == 1)
            raise_once(engine, monkeypatch, name)
            await until(lambda: all(one.ends for one in asked))
            for one in asked:
                (end,) = one.ends
                assert isinstance(end, Internal)
                assert SECRET not in str(end)
            await until(lambda: engine.num_open == 0)
            require_idle(engine)
            after = [Asked("still here"), Asked("and here")]
            submit(engine, *after)
            await until(lambda: all(one.ends for one in after))
            assert [one.text for one in after] == ["still here ", "and here "]

    settle(run())


class RaisingText:
    is_stopped = False

    def push(self, token_id: int) -> TextDelta | None:
        raise ValueError(SECRET)

    def end(self) -> TextDelta | None:
        return None


class BadTokenizer(FakeRunner):
    """Whose tokens of the prompt `garbled` have no text."""

    def _prepare(self, sequence: Sequence) -> Exception | None:
        failed = super()._prepare(sequence)
        if sequence.request.prompt == "garbled":
            sequence._text = RaisingText()
        return failed


def test_tokenizer_that_raises_ends_its_own_sequence_only() -> None:
    async def run() -> None:
        async with running(BadTokenizer()) as engine:
            talking, garbled = Asked(ENDLESS), Asked("garbled")
            submit(engine, talking)
            await until(lambda: len(talking.events) > 0)
            submit(engine, garbled)
            await until(lambda: garbled.ends)
            assert isinstance(garbled.ends[0], ModelFailed)
            assert SECRET not in str(garbled.ends[0])
            before = len(talking.events)
            await until(lambda: len(talking.events) > before)
            engine.stop(talking.sequence, Cancelled("no longer wanted"))

    settle(run())


class CannotPrepare(FakeRunner):
    """Whose first preparing raises before any outcome."""

    is_broken = True

    def prepare(self, sequences: Values[Sequence]) -> list[Exception | None]:
        if self.is_broken:
            self.is_broken = False
            raise MemoryError(SECRET)
        return super().prepare(sequences)


def test_unforeseen_error_while_preparing_ends_those_and_the_engine_goes_on() -> None:
    async def run() -> None:
        async with running(CannotPrepare()) as engine:
            first, second = Asked("first"), Asked("second")
            submit(engine, first)
            await until(lambda: first.ends)
            assert isinstance(first.ends[0], Internal)
            assert SECRET not in str(first.ends[0])
            submit(engine, second)
            await until(lambda: second.ends)
            assert second.text == "second "
            await until(lambda: not engine.batch.has_work)
            require_idle(engine)

    settle(run())
