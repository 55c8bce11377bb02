"""The Free Spoken Digit Dataset (CC BY-SA 4.0, github.com/Jakobovski/free-spoken-digit-dataset) out of its archive.

Recordings are named `digit_speaker_index.wav`. Its authors' split: index 0 to 4 of each digit and speaker is the test
part, the rest the training part. Of that rest, index 5 to 9 is set aside here for choosing settings.
"""

from __future__ import annotations

import io
import re
import wave
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 8000
_NAME = re.compile(r"(?:.*/)?(\d)_([a-z]+)_(\d+)\.wav")
_FIRST_VALIDATION, _FIRST_TRAIN = 5, 10
_MOST_SECONDS = 10

Split = Literal["test", "validation", "train"]
Samples = NDArray[np.float32]  # [samples], -1 to 1, at SAMPLING_RATE


@dataclass(frozen=True, slots=True)
class Recording:
    """One digit, said once."""

    digit: int
    speaker: str
    index: int
    samples: Samples


def split_of(index: int) -> Split:
    if index < _FIRST_VALIDATION:
        return "test"
    return "validation" if index < _FIRST_TRAIN else "train"


def read_recordings(archive: Path, split: Split) -> list[Recording]:
    """All recordings of a split, by digit, speaker and index."""
    found = []
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if (match := _NAME.fullmatch(name)) and split_of(int(match[3])) == split:
                samples = read_wave(files.read(name))
                found.append(Recording(int(match[1]), match[2], int(match[3]), samples))
    if not found:
        raise ValueError(
            f"{archive} holds no recording of the {split} part: expected digit_speaker_index.wav"
        )
    return sorted(found, key=lambda one: (one.digit, one.speaker, one.index))


def read_wave(file: bytes) -> Samples:
    """A short mono 16-bit WAV at SAMPLING_RATE, which is what fsdd and our samples are."""
    with wave.open(io.BytesIO(file)) as sound:
        got = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        if got != (1, 2, SAMPLING_RATE) or sound.getnframes() > _MOST_SECONDS * SAMPLING_RATE:
            raise ValueError(
                f"a WAV has (channels, bytes, rate) {got} and {sound.getnframes()} samples: expected"
                f" (1, 2, {SAMPLING_RATE}) and at most {_MOST_SECONDS} s"
            )
        pcm = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
    return pcm.astype(np.float32) / np.float32(32768)
