"""An answer as it comes: text piece by piece, and what it cost."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from edge_node.report import AnswerReport
from wire.errors import TooLarge
from wire.limits import MAX_ANSWER_CHARS
from wire.v1 import inference_pb2 as pb


class AsyncAnswer:
    """An answer as it comes: iterate for the text; `report` is complete once the text has ended.

    Whoever leaves it early closes it (`contextlib.aclosing` does), so that the cloud stops, too.
    """

    def __init__(self, texts: AsyncGenerator[str, None], report: AnswerReport) -> None:
        self._texts = texts
        self.report = report

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts

    async def text(self) -> str:
        """Waits for the whole text."""
        async for _ in self._texts:
            pass
        return self.report.text

    async def aclose(self) -> None:
        """Cancels what has not come yet."""
        await self._texts.aclose()


async def texts_of(
    downs: AsyncGenerator[pb.Down, None], payload_bytes: Sequence[int], report: AnswerReport, started: float
) -> AsyncGenerator[str, None]:
    """What the cloud says of a request goes to the report, and its text to the caller. Raises TooLarge."""
    asked = time.perf_counter()
    async for down in downs:
        now = time.perf_counter()
        match down.WhichOneof("message"):
            case "ack" if _is_last(down.ack, payload_bytes):
                report.ms["upload"] = (now - asked) * 1e3
            case "deltas":
                report.ms.setdefault("first_token", (now - started) * 1e3)
                for delta in down.deltas.deltas:
                    report.text += delta.text
                    if len(report.text) > MAX_ANSWER_CHARS:
                        raise TooLarge(f"the cloud's answer has more than {MAX_ANSWER_CHARS:,} characters")
                    yield delta.text
            case "done":
                report.ms["total"] = (now - started) * 1e3
                report.ms.setdefault("first_token", report.ms["total"])
                report.note_done(down.done)


def _is_last(ack: pb.Ack, payload_bytes: Sequence[int]) -> bool:
    """Whether an input's payload has come whole."""
    return [ack.received_bytes] == list(payload_bytes[ack.input_index : ack.input_index + 1])
