"""The engine: a bounded queue in front of one worker thread that runs one sequence at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from cloud_node.sequence import Emit, Event, Finished, Sequence
from wire.errors import CleaveError, ModelFailed, Overloaded

_log = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs a sequence to its end on the caller's thread, telling of each delta."""

    def run(self, sequence: Sequence, emit: Emit) -> Finished: ...


class Engine:
    """Sequences wait in arrival order; a failure, a cancellation or a deadline ends its own sequence only."""

    def __init__(self, runner: Runner, max_queue: int) -> None:
        self._runner = runner
        self._max_queue = max_queue
        self._waiting: deque[Sequence] = deque()
        self._arrived = asyncio.Event()
        self._running: Sequence | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="runner")
        self._task = asyncio.create_task(self._loop())

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return int(self._running is not None)

    def submit(self, sequence: Sequence) -> None:
        """Queues a sequence; raises Overloaded where the queue is full."""
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(
                f"{self._max_queue} requests are waiting already, which is all that this cloud queues; ask again "
                "later or elsewhere",
                retry_after_s=1.0,
            )
        sequence.submitted_s = time.monotonic()
        self._waiting.append(sequence)
        self._arrived.set()

    def stop(self, sequence: Sequence, error: CleaveError) -> None:
        """Ends a sequence with `error`: at once if it waits, at its next token if it runs."""
        sequence.stop(error)
        with contextlib.suppress(ValueError):
            self._waiting.remove(sequence)
            sequence.emit(error)

    async def close(self) -> None:
        """Stops what runs, and the worker."""
        if self._running is not None:
            self._running.stop(ModelFailed("the cloud is closing"))
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._running = None

    async def _loop(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            self._running = sequence = self._waiting.popleft()
            sequence.times.queue_s = time.monotonic() - sequence.submitted_s
            sequence.emit(await self._outcome(sequence))
            self._running = None

    async def _outcome(self, sequence: Sequence) -> Event:
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(sequence.emit, event)

        outcome = await loop.run_in_executor(self._worker, self._run, sequence, emit)
        if sequence.stopped_by is not None:
            return sequence.stopped_by
        if isinstance(outcome, Finished):
            outcome.times.total_s = time.monotonic() - sequence.submitted_s
        return outcome

    def _run(self, sequence: Sequence, emit: Emit) -> Event:
        """On the worker's thread. Errors are returned: a future cannot carry a StopIteration, and would never end."""
        try:
            return self._runner.run(sequence, emit)
        except CleaveError as error:
            return error
        except Exception as error:  # whatever a model raises ends its own sequence only
            _log.exception("request %s failed inside the model", sequence.request.request_id)
            return ModelFailed(f"the model failed on this request ({type(error).__name__}); the others go on")
