"""The engine with a runner that a test conducts: order, stopping, and whose failure is whose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloud_node.asked.sequence import Event, Finished, Sequence, TextDelta
from cloud_node.asked.tenants import ANYBODY, Tenant
from cloud_node.engine.engine import Engine, EngineSettings
from tests.kit.clouds import SECRET, FakeRunner, request_of, settle, until
from tests.kit.unobserved import Unobserved
from wire.errors import BadInput, Cancelled, CleaveError, ModelFailed, Overloaded


class Asked:
    """A sequence and what the engine says of it."""

    def __init__(self, prompt: str, tenant: Tenant = ANYBODY) -> None:
        self.events: list[Event] = []
        request = request_of(prompt, tenant=tenant)
        self.sequence = Sequence(request, (memoryview(b""),), self.events.append)

    @property
    def end(self) -> Event | None:
        return self.events[-1] if self.events and not isinstance(self.events[-1], TextDelta) else None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


@asynccontextmanager
async def running(runner: FakeRunner, max_queue: int = 8) -> AsyncIterator[Engine]:
    engine = Engine(runner, EngineSettings(max_queue=max_queue, num_slots=1, tell_every_s=0), Unobserved())
    try:
        yield engine
    finally:
        runner.release.set()
        await engine.close()


def submit(engine: Engine, *prompts: str, tenant: Tenant = ANYBODY) -> list[Asked]:
    asked = [Asked(prompt, tenant) for prompt in prompts]
    for one in asked:
        engine.submit(one.sequence)
    return asked


def test_sequences_run_in_the_order_of_their_arrival(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner) as engine:
            asked = submit(engine, "one", "two", "three")
            await until(lambda: all(one.end for one in asked))
            assert runner.ran == ["one", "two", "three"]
            assert [one.text for one in asked] == ["one ", "two ", "three "]
            assert all(isinstance(one.end, Finished) for one in asked)

    settle(run())


def test_times_say_how_long_a_sequence_waited(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner) as engine:
            first, second = submit(engine, "hold", "next")
            await until(lambda: first.text == "hold ")
            await asyncio.get_running_loop().run_in_executor(None, runner.holding.acquire)
            runner.release.set()
            await until(lambda: second.end is not None)
            assert isinstance(second.end, Finished)
            assert 0 < second.end.times.queue_s <= second.end.times.total_s

    settle(run())


def test_sequence_stopped_while_waiting_ends_at_once_and_never_runs(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner) as engine:
            first, second, third = submit(engine, "hold", "never", "third")
            await until(lambda: first.text == "hold ")
            assert (engine.num_running, engine.num_waiting) == (1, 2)
            engine.stop(second.sequence, Cancelled("no longer wanted"))
            assert isinstance(second.end, Cancelled)
            runner.release.set()
            await until(lambda: third.end is not None)
            assert runner.ran == ["hold", "third"]
            assert len(second.events) == 1

    settle(run())


def test_sequence_stopped_while_running_ends_with_the_first_reason_and_the_next_runs(
    runner: FakeRunner,
) -> None:
    async def run() -> None:
        async with running(runner) as engine:
            first, second = submit(engine, "hold", "next")
            await until(lambda: first.text == "hold ")
            engine.stop(first.sequence, Cancelled("first"))
            engine.stop(first.sequence, Cancelled("second"))
            await until(lambda: second.end is not None)
            assert str(first.end) == "first"
            assert isinstance(second.end, Finished)
            assert (engine.num_running, engine.num_waiting) == (0, 0)

    settle(run())


@pytest.mark.parametrize("failure", [RuntimeError(SECRET), StopIteration(SECRET), MemoryError(SECRET)])
def test_failure_ends_its_own_sequence_and_tells_nothing_of_its_text(
    runner: FakeRunner, failure: Exception
) -> None:
    runner.failure = failure

    async def run() -> None:
        async with running(runner) as engine:
            first, second = submit(engine, "fail", "fine")
            await until(lambda: second.end is not None)
            assert isinstance(first.end, ModelFailed)
            assert SECRET not in str(first.end)
            assert isinstance(second.end, Finished)

    settle(run())


def test_error_of_our_own_tree_reaches_the_caller_as_it_is(runner: FakeRunner) -> None:
    runner.failure = BadInput("the prompt holds a placeholder")

    async def run() -> None:
        async with running(runner) as engine:
            (asked,) = submit(engine, "fail")
            await until(lambda: asked.end is not None)
            assert asked.end is runner.failure

    settle(run())


def test_full_queue_refuses_and_keeps_what_it_has(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner, max_queue=1) as engine:
            (first,) = submit(engine, "hold")
            await until(lambda: first.text == "hold ")
            (second,) = submit(engine, "second")
            with pytest.raises(Overloaded) as refused:
                submit(engine, "third")
            assert refused.value.retry_after_s
            runner.release.set()
            await until(lambda: second.end is not None)

    settle(run())


def test_flood_of_one_tenant_does_not_hold_up_another(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner, max_queue=32) as engine:
            (first,) = submit(engine, "hold")
            await until(lambda: first.text == "hold ")
            flood = submit(engine, *["flood"] * 30, tenant=Tenant("flood"))
            (calm,) = submit(engine, "calm", tenant=Tenant("calm"))
            runner.release.set()
            await until(lambda: all(one.end for one in (calm, *flood)))
            # Before it, the one that is prepared with it and those that were prepared before it came.
            assert runner.ran.index("calm") <= 2
            assert len(runner.ran) == 32

    settle(run())


def test_tenant_that_fills_the_queue_makes_way_and_its_last_is_told_so(runner: FakeRunner) -> None:
    async def run() -> None:
        async with running(runner, max_queue=24) as engine:
            (first,) = submit(engine, "hold")
            await until(lambda: first.text == "hold ")
            flood = submit(engine, *["flood"] * 24, tenant=Tenant("flood"))
            (calm,) = submit(engine, "calm", tenant=Tenant("calm"))
            assert isinstance(flood[-1].end, Overloaded)
            assert not any(one.end for one in (*flood[:-1], calm))
            runner.release.set()
            await until(lambda: calm.end is not None and all(one.end for one in flood))
            assert isinstance(calm.end, Finished)

    settle(run())


def test_sequence_that_has_become_too_late_in_the_queue_is_refused_and_never_prepared(
    runner: FakeRunner,
) -> None:
    async def run() -> None:
        async with running(runner) as engine:
            (first,) = submit(engine, "hold")
            await until(lambda: first.text == "hold ")
            late = Asked("late")
            late.sequence.deadline_at_s = time.monotonic() + 5.0
            # So that nobody takes it up before the engine has become slow.
            with engine._lock:
                engine.submit(late.sequence)
                engine.pace.prepare_s.value = 10.0
                engine.pace.num_ended = 100
            await until(lambda: late.end is not None)
            assert isinstance(late.end, Overloaded)
            runner.release.set()
            (patient,) = submit(engine, "patient")
            await until(lambda: patient.end is not None)
            assert (runner.prepared, engine.num_open) == (["hold", "patient"], 0)

    settle(run())


def test_closing_stops_what_runs(runner: FakeRunner) -> None:
    async def run() -> None:
        engine = Engine(runner, EngineSettings(num_slots=1, tell_every_s=0), Unobserved())
        first, _ = submit(engine, "hold", "never")
        await until(lambda: first.text == "hold ")
        await engine.close()
        assert isinstance(first.sequence.stopped_by, CleaveError)
        assert runner.ran == ["hold"]

    settle(run())
