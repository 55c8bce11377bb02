"""Evaluation: errors are counted in words, and the sounds are the split's recordings alone and in strings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.speech.evaluate import NOISY, SINGLE, STRINGS, Report, Row, num_word_errors, sounds_of
from training.speech.recordings import read_recordings


@pytest.mark.parametrize(
    ("expected", "got", "errors"),
    [
        ("three seven one", "three seven one", 0),
        ("three seven one", "three one", 1),
        ("three seven one", "three nine one one", 2),
        ("三 七", "", 2),
    ],
)
def test_errors_are_counted_in_words(expected: str, got: str, errors: int) -> None:
    assert num_word_errors(expected, got) == errors


def test_rate_is_of_all_words_that_match() -> None:
    rows = (
        Row(SINGLE, "en", "ann", num_words=10, num_errors=1),
        Row(SINGLE, "en", "bob", num_words=30, num_errors=1),
        Row(SINGLE, "fr", "bob", num_words=30, num_errors=30),
    )
    assert Report(rows).error_rate(SINGLE, "en") == 2 / 40
    assert Report(rows).error_rate(SINGLE, "en", "ann") == 1 / 10


def test_single_recordings_are_heard_as_they_are(archive: Path) -> None:
    recordings = read_recordings(archive, "test")
    singles = [sound for sound in sounds_of(recordings) if sound.kind == SINGLE]
    assert len(singles) == len(recordings)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(singles, recordings, strict=True))


def test_strings_have_two_to_six_digits_of_every_speaker(archive: Path) -> None:
    sounds = sounds_of(read_recordings(archive, "test"), per_length=2)
    for kind in (STRINGS, NOISY):
        for speaker in ("ann", "bob"):
            lengths = [len(one.digits) for one in sounds if (one.kind, one.speaker) == (kind, speaker)]
            assert lengths == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
