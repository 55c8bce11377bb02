"""The edge node for programs without an event loop: the same, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_node.answer import AsyncAnswer
from edge_node.given import SoundSource
from edge_node.hearing import Speech
from edge_node.listening import Heard
from edge_node.media import ImageSource
from edge_node.node import AsyncEdgeNode
from edge_node.report import AnswerReport
from edge_node.retrieval import Hit
from wire.errors import Cancelled
from wire.v1 import inference_pb2 as pb

T = TypeVar("T")


class EdgeNode:
    """One device; takes the arguments of AsyncEdgeNode, which does the work. Any thread may use it."""

    def __init__(self, cloud: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge-node", daemon=True)
        self._thread.start()
        self._guard = threading.Lock()
        self._is_closed = False
        try:
            self._node = self._run(_made(cloud, options))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> EdgeNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is being asked with Cancelled, closes the link and ends the thread."""
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._stop()

    def describe(self) -> pb.DescribeReply:
        """The cloud's models, split points, codecs and limits."""
        return self._run(self._node.describe())

    def metrics(self) -> str:
        """The cloud's counts and measurements, in Prometheus' text format (docs/metrics.md)."""
        return self._run(self._node.metrics())

    def ask(self, question: str = "", image: ImageSource | None = None, **options: Any) -> Answer:
        """Asks about pictures and sounds, with the options of AsyncEdgeNode.ask; iterate for the text as it comes."""
        return Answer(self._run(_asked(self._node, question, image, options)), self._submit)

    def embed(self, **options: Any) -> NDArray[np.float32]:
        """The vector of one input, [dim], of length 1, with the options of AsyncEdgeNode.embed."""
        return self._run(self._node.embed(**options))

    def index_add(self, index: str, item_id: str, **options: Any) -> int:
        """Keeps one input's embedding on the cloud, with the options of AsyncEdgeNode.index_add."""
        return self._run(self._node.index_add(index, item_id, **options))

    def search(self, index: str, **options: Any) -> list[Hit]:
        """What an index holds nearest to one input, with the options of AsyncEdgeNode.search."""
        return self._run(self._node.search(index, **options))

    def listen(self, speech: Speech, rate_hz: int, **options: Any) -> Iterator[Heard]:
        """What a model hears of speech, while it comes, with the options of AsyncEdgeNode.listen."""
        heard = self._node.listen(speech, rate_hz, **options)
        try:
            while (one := self._run(_next(heard))) is not None:
                yield one
        finally:
            with contextlib.suppress(Cancelled):
                self._submit(heard.aclose())

    def transcribe(self, sound: SoundSource, **options: Any) -> str:
        """The text of a recording of any length, with the options of AsyncEdgeNode.transcribe."""
        return self._run(self._node.transcribe(sound, **options))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return _result(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._guard:
            if self._is_closed:
                work.close()
                raise Cancelled("this edge node is closed; make a new one")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self) -> None:
        await self._node.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Answer:
    """An answer as it comes: iterate for the text; `report` is complete once the text has ended.

    A loop that is left early cancels what has not come yet.
    """

    def __init__(
        self, answer: AsyncAnswer, submit: Callable[[Coroutine[Any, Any, Any]], Future[Any]]
    ) -> None:
        self._answer = answer
        self._texts = aiter(answer)
        self._submit = submit
        self.report: AnswerReport = answer.report

    def __iter__(self) -> Iterator[str]:
        try:
            while (text := _result(self._submit(_next(self._texts)))) is not None:
                yield text
        finally:
            # Not waited for: the garbage collector may run this in any thread, the node's own included.
            with contextlib.suppress(Cancelled):
                self._submit(self._answer.aclose())

    def text(self) -> str:
        """Waits for the whole text."""
        for _ in self:
            pass
        return self.report.text


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except FutureCancelled:
        raise Cancelled("the edge node was closed before the answer was whole") from None


async def _made(cloud: str, options: dict[str, Any]) -> AsyncEdgeNode:
    return AsyncEdgeNode(cloud, **options)


async def _asked(
    node: AsyncEdgeNode, question: str, image: ImageSource | None, options: dict[str, Any]
) -> AsyncAnswer:
    return node.ask(question, image, **options)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
