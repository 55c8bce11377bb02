"""Why an answer ended, where several reasons come together."""

from __future__ import annotations

import pytest

from cloud_node.asked.sequence import Event, Finished, FinishReason, Sequence, TextDelta
from cloud_node.engine.batch import RunningBatch
from cloud_node.engine.scheduler import Scheduler
from tests.kit.clouds import FakePrompt, FakeRunner, FakeText, request_of
from tests.kit.unobserved import Unobserved


class EndingText(FakeText):
    """Holds text back, and finds a stop string in it at the end."""

    def __init__(self, words: list[str], finds: bool) -> None:
        super().__init__(words)
        self._finds = finds

    def end(self) -> TextDelta | None:
        self.is_stopped = self._finds
        return None


@pytest.mark.parametrize(
    ("finds", "reason"), [(True, FinishReason.STOP_STRING), (False, FinishReason.LENGTH)]
)
def test_answer_whose_last_text_holds_a_stop_string_ended_at_it(finds: bool, reason: FinishReason) -> None:
    events: list[Event] = []
    request = request_of("a b")
    sequence = Sequence(request, memoryview(b""), events.append)
    words = ["a", "b"]
    sequence.prepare(FakePrompt(sequence, words, max_new_tokens=1), EndingText(words, finds))
    batch = RunningBatch(
        FakeRunner(), Scheduler(1, 0, 64), Unobserved(), lambda told: [s.emit(e) for s, e in told]
    )
    batch.add(sequence)
    batch.step()
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is reason
