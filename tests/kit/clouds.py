"""Real cloud nodes in this process: the real server, engine and streams, with a runner that a test conducts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from collections.abc import Sequence as Values
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Embeddings, Sequence, TextDelta
from cloud_node.asked.served import Served
from cloud_node.asked.settings import Settings
from cloud_node.caching.flights import Flights
from cloud_node.config import CloudConfig
from cloud_node.engine.batch import Runner
from cloud_node.engine.engine import Engine
from cloud_node.ready import Ready
from cloud_node.server import CloudServer
from cloud_node.telemetry.outside import Outside
from wire.errors import CleaveError
from wire.limits import Limits
from wire.manifest import Manifest, bundle_digest, load_manifest
from wire.sizes import ImageSize

T = TypeVar("T")

LIMIT_S = 20.0
SECRET = "the user's own words"
NOTHING = -1  # a token without a word


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

    `hold` holds the whole batch until `release` or until the sequence is stopped; `fail` raises what holds user
    data. A row knows its own prompt, so that a move that was forgotten gives another row's words.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []  # prompts that were given a row
        self.prepared: list[str] = []
        self.payloads: list[bytes] = []
        self.batches: list[int] = []
        self.holding = threading.Semaphore(0)
        self.release = threading.Event()
        self.failure: Exception = RuntimeError(SECRET)
        self.rows: dict[int, FakePrompt] = {}

    def prepare(self, sequences: Values[Sequence]) -> list[Exception | None]:
        return [self._prepare(sequence) for sequence in sequences]

    def _prepare(self, sequence: Sequence) -> Exception | None:
        prompt = FakePrompt(sequence, sequence.request.prompt.split())
        self.prepared.append(sequence.request.prompt)
        self.payloads.append(b"".join(sequence.payloads))
        if prompt.words == ["unprepared"]:
            return self.failure
        sequence.prepare(prompt, FakeText(prompt.words))
        return None

    def begin(self, prompt: FakePrompt, row: int) -> int:
        self.ran.append(" ".join(prompt.words))
        self.rows[row] = prompt
        return 0

    def read(self, prompt: FakePrompt, row: int, start: int, stop: int) -> int | CleaveError | None:
        assert self.rows[row] is prompt
        return self._next(prompt) if stop == prompt.num_tokens else None

    def step(self, prompts: Values[FakePrompt], first_row: int = 0) -> list[int | CleaveError]:
        assert [self.rows[first_row + index] for index in range(len(prompts))] == list(prompts)
        if any(self._fails(prompt) for prompt in prompts):
            raise self.failure
        self.batches.append(len(prompts))
        for prompt in prompts:
            while prompt.is_holding and prompt.sequence.stopped_by is None and not self.release.wait(0.01):
                pass
        return [self._next(prompt) for prompt in prompts]

    def move(self, source: int, target: int, prompt: FakePrompt) -> None:
        assert self.rows[source] is prompt
        self.rows[target] = prompt

    def _fails(self, prompt: FakePrompt) -> bool:
        return prompt.is_next("fail") and (self.release.is_set() or not prompt.is_holding)

    def _next(self, prompt: FakePrompt) -> int:
        if self._fails(prompt):
            raise self.failure
        if prompt.is_holding and not self.release.is_set():
            return NOTHING
        prompt.num_said += 1
        if prompt.is_holding:
            self.holding.release()
        return prompt.num_said - 1


class FakeEncodingRunner(FakeRunner):
    """A dual encoder's: an input's vector lies along the axis that its payload's first byte names."""

    DIM = 256

    def prepare(self, sequences: Values[Sequence]) -> list[Any]:
        return [self._embed(sequence) for sequence in sequences]

    def _embed(self, sequence: Sequence) -> Embeddings:
        self.payloads.append(b"".join(sequence.payloads))
        vectors = np.zeros((len(sequence.payloads), self.DIM), np.float32)
        for row, payload in zip(vectors, sequence.payloads, strict=True):
            row[payload[0]] = 1.0
        return Embeddings(vectors, sequence.times)


@dataclass(eq=False)
class FakePrompt:
    """Words to be said; token i is word i, and the last one ends the answer."""

    sequence: Sequence
    words: list[str]
    num_tokens: int = 7
    max_new_tokens: int = 1 << 30
    num_said: int = 0

    @property
    def cuts(self) -> Values[int]:
        return range(1, self.num_tokens + 1)

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset([len(self.words) - (self.words[-1] != "hold")])

    @property
    def is_holding(self) -> bool:
        return 0 < self.num_said <= len(self.words) and self.words[self.num_said - 1] == "hold"

    def is_next(self, word: str) -> bool:
        return self.num_said < len(self.words) and self.words[self.num_said] == word


class FakeText:
    """A word and a space per token; as in every answer, the last delta counts the token without a word, too."""

    is_stopped = False

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._num_untold = 0

    def push(self, token_id: int) -> TextDelta | None:
        if 0 <= token_id < len(self._words):
            return TextDelta(f"{self._words[token_id]} ", token_id, 1)
        self._num_untold += token_id != NOTHING
        return None

    def end(self) -> TextDelta | None:
        return TextDelta("", len(self._words), self._num_untold) if self._num_untold else None


def served_from(folder: Path, refused: dict[int, str] | None = None) -> Served:
    """A bundle as served, without loading its model."""
    data = (folder / "manifest.json").read_bytes()
    manifest: Manifest = load_manifest(data)
    chain_id = manifest.chains[0].chain_id
    return Served("tiny", manifest, bundle_digest(data), {chain_id: refused} if refused else {})


def request_of(prompt: str, **changes: Any) -> Request:
    """A request about one small picture, for engines whose runner does not look at it."""
    item = RequestInput("image", "32x32", 1, "raw", ImageSize(64, 48), (4,), 0)
    given: dict[str, Any] = {"settings": Settings(8), "deadline_s": 60.0, "inputs": (item,), **changes}
    return Request("r", prompt, **given)


def limits(**changes: Any) -> Limits:
    return replace(Limits(max_new_tokens=256), **changes)


@contextlib.asynccontextmanager
async def cloud(
    served: Served, bundle: Path, runner: Runner, outside: Outside | None = None, **settings: Any
) -> AsyncIterator[CloudServer]:
    """A cloud node on a free port of loopback, one sequence at a time unless told otherwise, in this loop."""
    async with cloud_of([Ready(served, runner, bundle)], outside, **settings) as server:
        yield server


@contextlib.asynccontextmanager
async def cloud_of(
    models: Values[Ready], outside: Outside | None = None, **settings: Any
) -> AsyncIterator[CloudServer]:
    """The same, of several models."""
    given: dict[str, Any] = {"listen": "127.0.0.1:0", "num_slots": 1, "tell_every_s": 0, **settings}
    config = CloudConfig(**given)
    server = CloudServer(config, models, outside)
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
        return engine_of(self.server)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT_S)

    def require_idle(self) -> None:
        """Nothing is left of any request: neither in the engine nor on a stream."""
        self.call(until(lambda: not num_left(self.server)))


def num_left(server: CloudServer) -> int:
    """Requests that anything in the cloud still holds."""
    engines = server._parts.engines.values()
    requests = server._service.requests
    return sum(engine.num_waiting + engine.num_running for engine in engines) + requests.num_open


def engine_of(server: CloudServer) -> Engine:
    """The only one's."""
    (engine,) = server._parts.engines.values()
    return engine


def flights_of(server: CloudServer) -> Flights:
    (flights,) = server._parts.flights.values()
    return flights


@contextlib.contextmanager
def cloud_thread(served: Served, bundle: Path, runner: Runner, **settings: Any) -> Iterator[CloudThread]:
    with cloud_thread_of([Ready(served, runner, bundle)], **settings) as node:
        yield node


@contextlib.contextmanager
def cloud_thread_of(models: Values[Ready], **settings: Any) -> Iterator[CloudThread]:
    """The same, of several models."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cloud", daemon=True)
    thread.start()
    context = cloud_of(models, **settings)
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
