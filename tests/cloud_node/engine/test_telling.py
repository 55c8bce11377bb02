"""What waits a moment on its way to the loop, and what does not."""

from __future__ import annotations

from cloud_node.asked.sequence import Finished, FinishReason, Sequence, StepTimes, TextDelta
from cloud_node.engine.telling import Events, Telling
from tests.kit.clouds import request_of

HOUR_S = 3600.0
END = Finished(FinishReason.LENGTH, 3, 4, StepTimes())


def sequence() -> Sequence:
    request = request_of("?")
    return Sequence(request, (memoryview(b""),), lambda event: None)


def test_tokens_are_told_together_and_the_first_and_the_end_at_once() -> None:
    told: list[Events] = []
    telling, a, b = Telling(told.append, HOUR_S), sequence(), sequence()
    telling.add(a, TextDelta("0", 0, 1))
    telling.flush()
    assert told == [[(a, TextDelta("0", 0, 1))]]
    for index in (1, 2):
        telling.add(a, TextDelta(str(index), index, 1))
        telling.flush()
    assert len(told) == 1
    telling.add(b, TextDelta("b", 0, 1))
    telling.flush()
    assert told[1:] == [[(a, TextDelta("12", 1, 2)), (b, TextDelta("b", 0, 1))]]
    telling.add(a, TextDelta("3", 3, 1))
    telling.add(a, END)
    telling.flush()
    assert told[2:] == [[(a, TextDelta("3", 3, 1)), (a, END)]]


def test_tokens_are_told_when_it_is_time_or_before_something_long() -> None:
    told: list[Events] = []
    telling, a = Telling(told.append, 0.0), sequence()
    telling.add(a, TextDelta("1", 1, 1))
    telling.flush()
    assert len(told) == 1
    later = Telling(told.append, HOUR_S)
    later.add(a, TextDelta("0", 0, 1))
    later.flush()
    later.add(a, TextDelta("1", 1, 1))
    later.flush(is_urgent=True)
    assert len(told) == 3
    later.flush(is_urgent=True)
    assert len(told) == 3
