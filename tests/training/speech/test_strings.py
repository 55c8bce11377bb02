"""Strings: the digits stated are those heard, in their order; nothing is cut, clipped or left to chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.speech.conftest import tone
from training.speech.recordings import SAMPLING_RATE, Samples, read_recordings
from training.speech.strings import (
    MOST_SECONDS,
    Clip,
    Manner,
    at_speeds,
    clips_of,
    coloured_noise,
    draw,
    join,
)

_PLAIN = Manner(pause_s=(0.1, 0.3), noise_share=0)


def _heard(samples: Samples) -> list[int]:
    """The digit whose tone each stretch of sound is, read off its spectrum."""
    is_loud = np.abs(samples) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], _closed(is_loud).astype(int), [0]])))
    found = []
    for start, end in edges.reshape(-1, 2):
        spectrum = np.abs(np.fft.rfft(samples[start:end]))
        peak_hz = spectrum.argmax() * SAMPLING_RATE / (end - start)
        found.append(round((peak_hz - 300) / 200))
    return found


def _closed(is_loud: np.ndarray, gap: int = 200) -> np.ndarray:
    """Without the gaps inside a tone, which are shorter than any pause."""
    return np.convolve(is_loud, np.ones(gap), "same") > 0


@pytest.mark.parametrize("seed", range(10))
def test_labels_are_what_is_heard(archive: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spoken = join(draw(clips_of(read_recordings(archive, "train")), 5, rng), _PLAIN, rng)
    assert len(spoken.digits) == 5
    assert _heard(spoken.samples) == list(spoken.digits)
    for one in spoken.said:
        assert _heard(spoken.samples[one.start : one.end]) == list(one.digits)


def test_what_does_not_fit_is_left_out_whole() -> None:
    clips = [Clip("ann", (digit,), tone(digit, 1.5).astype(np.float32)) for digit in range(9)]
    spoken = join(clips, _PLAIN, np.random.default_rng(1))
    assert 3 <= len(spoken.digits) < 6
    assert _heard(spoken.samples) == list(spoken.digits) == list(range(len(spoken.digits)))
    assert len(spoken.samples) <= MOST_SECONDS * SAMPLING_RATE


def test_string_of_nothing_has_no_digits() -> None:
    rng = np.random.default_rng(2)
    spoken = join([], Manner(noise_share=1, edge_s=(0.5, 0.5)), rng)
    assert spoken.digits == ()
    assert np.abs(spoken.samples).max() > 0


def test_same_seed_gives_the_same_string(archive: Path) -> None:
    clips = clips_of(read_recordings(archive, "train"))
    made = []
    for seed in (3, 3, 4):
        rng = np.random.default_rng(seed)
        made.append(join(draw(clips, 3, rng), Manner(), rng).samples)
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_level_is_the_one_asked_for() -> None:
    clip = Clip("ann", (3,), tone(3, 1.0).astype(np.float32))
    manner = Manner(edge_s=(0, 0), level_db=(-20, -20), clip_gain_db=0, noise_share=0)
    samples = join([clip], manner, np.random.default_rng(5)).samples
    assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(-20, abs=0.1)


def test_noise_is_as_loud_as_stated() -> None:
    noise = coloured_noise(40000, np.random.default_rng(6))
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, abs=0.01)


def test_faster_is_shorter_and_higher() -> None:
    clip = Clip("ann", (3,), tone(3, 1.0).astype(np.float32))
    same, faster = at_speeds([clip], (1.0, 1.25))
    assert np.array_equal(same.samples, clip.samples)
    assert len(faster.samples) == pytest.approx(len(clip.samples) / 1.25, abs=2)
    peak_hz = np.abs(np.fft.rfft(faster.samples)).argmax() * SAMPLING_RATE / len(faster.samples)
    assert peak_hz == pytest.approx(900 * 1.25, abs=5)


def test_phrases_are_drawn_only_where_they_fit() -> None:
    clips = [Clip("ann", digits, np.ones(10, np.float32)) for digits in ((1,), (2, 3), (4, 5, 6))]
    rng = np.random.default_rng(7)
    drawn = [draw(clips, 4, rng) for _ in range(20)]
    assert {sum(len(clip.digits) for clip in string) for string in drawn} == {4}
    assert len({len(string) for string in drawn}) > 1
