"""Text comes while the sound does, is revised, and ends final; failures end the listening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from edge_node.listening import Heard, listen
from edge_node.segments import Samples, Segmenter
from tests.edge_node.test_segments import RATE, silence, tone
from wire.errors import Unavailable

_SPEECH = np.concatenate([tone(1), silence(0.8), tone(1.5), silence(0.8), tone(0.5)])


async def coming(sound: Samples, chunk: int = 800) -> AsyncIterator[Samples]:
    """Every piece waits until what it set going has had its turn."""
    for at in range(0, len(sound), chunk):
        yield sound[at : at + chunk]
        for _ in range(5):
            await asyncio.sleep(0)


async def in_tenths(samples: Samples) -> str:
    """A model that says how long a piece is."""
    return f"{len(samples) / RATE:.1f}"


def run(
    ask: Callable[[Samples], Awaitable[str]], sound: Samples = _SPEECH, every_s: float = 0.3
) -> list[Heard]:
    async def collect() -> list[Heard]:
        heard = listen(
            ask, coming(sound), Segmenter(RATE, 4 * RATE), from_hz=RATE, to_hz=RATE, every_s=every_s
        )
        return [one async for one in heard]

    return asyncio.run(collect())


def test_text_comes_before_the_sound_has_ended_and_only_the_last_is_final() -> None:
    heard = run(in_tenths)
    assert [one.is_final for one in heard] == [False] * (len(heard) - 1) + [True]
    assert heard[0].seconds < 1.0 < len(_SPEECH) / RATE == pytest.approx(heard[-1].seconds)
    assert len(heard[-1].text.split()) == 3


def test_text_of_a_piece_is_revised_until_it_ends_and_stays_then() -> None:
    heard = run(in_tenths)
    first_words = [one.text.split()[0] for one in heard]
    settled = first_words[-1]
    at = first_words.index(settled)
    assert at > 0, "the first piece was revised"
    assert set(first_words[at:]) == {settled}


def test_sound_at_another_rate_is_brought_to_the_models() -> None:
    async def collect() -> list[Heard]:
        twice = np.repeat(_SPEECH, 2)
        segmenter = Segmenter(RATE, 4 * RATE)
        return [
            one async for one in listen(in_tenths, coming(twice), segmenter, from_hz=2 * RATE, to_hz=RATE)
        ]

    assert asyncio.run(collect())[-1].text == run(in_tenths)[-1].text


def test_silence_is_final_and_empty_and_nothing_is_asked() -> None:
    async def never(samples: Samples) -> str:
        raise AssertionError("asked about silence")

    assert [(one.text, one.is_final) for one in run(never, silence(2))] == [("", True)]


def test_failure_of_a_question_ends_the_listening_with_it() -> None:
    async def failing(samples: Samples) -> str:
        raise Unavailable("the cloud has gone; ask again")

    with pytest.raises(Unavailable, match="the cloud has gone"):
        run(failing)


def test_failure_of_the_sound_ends_the_listening_with_it() -> None:
    async def broken() -> AsyncIterator[Samples]:
        yield tone(1)
        raise OSError("the microphone was pulled out")

    async def collect() -> None:
        async for _ in listen(in_tenths, broken(), Segmenter(RATE, 4 * RATE), from_hz=RATE, to_hz=RATE):
            pass

    with pytest.raises(OSError, match="pulled out"):
        asyncio.run(collect())


def test_answers_that_are_slow_hold_up_no_sound_and_none_is_asked_twice_at_once() -> None:
    under_way, most = 0, 0

    async def slow(samples: Samples) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(40):
            await asyncio.sleep(0)
        under_way -= 1
        return await in_tenths(samples)

    heard = run(slow, every_s=0.05)
    assert heard[-1].is_final
    assert most <= 4, "one question about what is being said, beside those about the three pieces that ended"
