"""Real cloud nodes in this process: the real server, engine and streams, with a runner that a test conducts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cloud_node.config import CloudConfig
from cloud_node.engine import Engine, Runner
from cloud_node.request import Served
from cloud_node.sequence import Emit, Finished, FinishReason, Sequence, TextDelta
from cloud_node.server import CloudServer
from wire.limits import Limits
from wire.manifest import Manifest, bundle_digest, load_manifest

T = TypeVar("T")

LIMIT_S = 20.0
SECRET = "the user's own words"


def settle(work: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine on a loop of its own, within a time limit."""
    return asyncio.run(asyncio.wait_for(work, LIMIT_S))


async def until(is_so: Callable[[], bool]) -> None:
    """Waits, on the loop whose state is asked about, for what must come about."""
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0)


class FakeRunner:
    """Answers with the words of the prompt, one token each, and obeys those it knows.

    `hold` waits for `release` or until the sequence is stopped; `fail` raises what holds user data.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.payloads: list[bytes] = []
        self.holding = threading.Semaphore(0)
        self.release = threading.Event()
        self.failure: Exception = RuntimeError(SECRET)

    def run(self, sequence: Sequence, emit: Emit) -> Finished:
        words = sequence.request.prompt.split()
        self.ran.append(sequence.request.prompt)
        self.payloads.append(bytes(sequence.payload))
        for index, word in enumerate(words):
            if sequence.stopped_by is not None:
                break
            if word == "fail":
                raise self.failure
            emit(TextDelta(f"{word} ", index, 1))
            if word == "hold":
                self.hold(sequence)
        return Finished(FinishReason.STOP_TOKEN, 7, len(words), sequence.times)

    def hold(self, sequence: Sequence) -> None:
        self.holding.release()
        while sequence.stopped_by is None and not self.release.wait(0.01):
            pass


def served_from(folder: Path, refused: dict[int, str] | None = None) -> Served:
    """A bundle as served, without loading its model."""
    data = (folder / "manifest.json").read_bytes()
    manifest: Manifest = load_manifest(data)
    return Served("tiny", manifest, bundle_digest(data), refused or {})


def limits(**changes: Any) -> Limits:
    return replace(Limits(max_new_tokens=256, max_inputs=1), **changes)


@contextlib.asynccontextmanager
async def cloud(served: Served, bundle: Path, runner: Runner, **settings: Any) -> AsyncIterator[CloudServer]:
    """A cloud node on a free port of loopback unless told otherwise, in this loop."""
    config = CloudConfig(bundle=bundle, **{"listen": "127.0.0.1:0", **settings})
    server = CloudServer(config, served, runner)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class CloudThread:
    """A cloud node in a thread, for tests that have no loop or another one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: CloudServer) -> None:
        self.loop = loop
        self.server = server

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def engine(self) -> Engine:
        return self.server._engine

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT_S)

    def require_idle(self) -> None:
        """Nothing is left of any request: neither in the engine nor on a stream."""
        self.call(until(lambda: not num_left(self.server)))


def num_left(server: CloudServer) -> int:
    """Requests that anything in the cloud still holds."""
    engine = server._engine
    return (
        engine.num_waiting
        + engine.num_running
        + sum(len(stream._open) for stream in server._service._streams)
    )


@contextlib.contextmanager
def cloud_thread(served: Served, bundle: Path, runner: Runner, **settings: Any) -> Iterator[CloudThread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cloud", daemon=True)
    thread.start()
    context = cloud(served, bundle, runner, **settings)
    node: CloudThread | None = None
    try:
        enter = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop)
        node = CloudThread(loop, enter.result(LIMIT_S))
        yield node
    finally:
        if node is not None:
            node.call(context.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
