"""The edge node for programs without an event loop: the same, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from edge_node.media import ImageSource
from edge_node.node import AsyncAnswer, AsyncEdgeNode
from edge_node.report import AnswerReport
from wire.v1 import inference_pb2 as pb

T = TypeVar("T")


class EdgeNode:
    """One device; takes the arguments of AsyncEdgeNode, which does the work."""

    def __init__(self, cloud: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge-node", daemon=True)
        self._thread.start()
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
        """Closes the link and ends the thread."""
        if self._loop.is_closed():
            return
        self._run(self._node.close())
        self._stop()

    def describe(self) -> pb.DescribeReply:
        """The cloud's models, split points, codecs and limits."""
        return self._run(self._node.describe())

    def ask(self, question: str, image: ImageSource, **options: Any) -> Answer:
        """Asks about a picture, with the options of AsyncEdgeNode.ask; iterate for the text as it comes."""
        return Answer(self._run(_asked(self._node, question, image, options)), self._run)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Answer:
    """An answer as it comes: iterate for the text; `report` is complete once the text has ended."""

    def __init__(self, answer: AsyncAnswer, run: Any) -> None:
        self._texts = aiter(answer)
        self._run = run
        self.report: AnswerReport = answer.report

    def __iter__(self) -> Iterator[str]:
        try:
            while (text := self._run(_next(self._texts))) is not None:
                yield text
        finally:
            self._run(self._texts.aclose())  # type: ignore[attr-defined]

    def text(self) -> str:
        """Waits for the whole text."""
        for _ in self:
            pass
        return self.report.text


async def _made(cloud: str, options: dict[str, Any]) -> AsyncEdgeNode:
    return AsyncEdgeNode(cloud, **options)


async def _asked(
    node: AsyncEdgeNode, question: str, image: ImageSource, options: dict[str, Any]
) -> AsyncAnswer:
    return node.ask(question, image, **options)


async def _next(texts: Any) -> str | None:
    result: Awaitable[str | None] = anext(texts, None)
    return await result
