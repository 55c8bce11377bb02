"""Strings of digits: clips joined with pauses, at a level, in noise. Randomness is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from training.speech.recordings import SAMPLING_RATE, Recording, Samples

MOST_SECONDS = 8  # what the model hears at once
_MOST_SAMPLES = MOST_SECONDS * SAMPLING_RATE
_LOG_FREQUENCIES = np.log(np.maximum(np.fft.rfftfreq(_MOST_SAMPLES, 1 / SAMPLING_RATE), 50.0)).astype(
    np.float32
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One or more digits that one speaker says in one go."""

    speaker: str
    digits: tuple[int, ...]
    samples: Samples


@dataclass(frozen=True, slots=True)
class Said:
    """Where in a sound a clip is: from sample `start` to before `end`."""

    digits: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sound and what is said in it."""

    said: tuple[Said, ...]
    samples: Samples

    @property
    def digits(self) -> tuple[int, ...]:
        return tuple(digit for one in self.said for digit in one.digits)


@dataclass(frozen=True, slots=True)
class Manner:
    """How clips become one sound: ranges that each sound draws from."""

    edge_s: tuple[float, float] = (0.0, 0.8)  # silence before and after
    pause_s: tuple[float, float] = (0.0, 0.6)
    level_db: tuple[float, float] = (-46.0, -8.0)  # of the sound's loudness (root mean square)
    clip_gain_db: float = 6.0  # between the clips of a string
    noise_share: float = 0.5  # of the sounds
    snr_db: tuple[float, float] = (8.0, 50.0)


def clips_of(recordings: Iterable[Recording]) -> list[Clip]:
    return [Clip(one.speaker, (one.digit,), one.samples) for one in recordings]


def at_speeds(clips: Sequence[Clip], speeds: Sequence[float]) -> list[Clip]:
    """Each clip at each speed; pitch and voice move with it, as on a tape."""
    return [
        Clip(clip.speaker, clip.digits, _resampled(clip.samples, speed)) for speed in speeds for clip in clips
    ]


def _resampled(samples: Samples, speed: float) -> Samples:
    if speed == 1.0:
        return samples
    return np.asarray(soxr.resample(samples, SAMPLING_RATE * speed, SAMPLING_RATE), dtype=np.float32)


def draw(clips: Sequence[Clip], num_digits: int, rng: np.random.Generator) -> list[Clip]:
    """Random clips with so many digits together; some of those to draw from say one digit only."""
    drawn: list[Clip] = []
    missing = num_digits
    while missing:
        clip = clips[int(rng.integers(len(clips)))]
        if len(clip.digits) <= missing:
            drawn.append(clip)
            missing -= len(clip.digits)
    return drawn


def join(clips: Sequence[Clip], manner: Manner, rng: np.random.Generator) -> Spoken:
    """The clips one after the other, as many as fit in MOST_SECONDS; without any, a pause in noise."""
    parts = [_silence(manner.edge_s, rng)]
    said: list[Said] = []
    for clip in clips:
        pause = _silence(manner.pause_s, rng) if said else np.zeros(0, np.float32)
        start = sum(map(len, parts)) + len(pause)
        if start + len(clip.samples) > _MOST_SAMPLES:
            break
        gain = 10 ** (rng.uniform(-manner.clip_gain_db, manner.clip_gain_db) / 20)
        parts += [pause, clip.samples * np.float32(gain / _rms(clip.samples))]
        said.append(Said(clip.digits, start, start + len(clip.samples)))
    parts.append(_silence(manner.edge_s, rng))
    samples = np.concatenate(parts)[:_MOST_SAMPLES]
    if rng.random() < manner.noise_share:
        # Clips have a loudness of about 1 here.
        samples = samples + coloured_noise(len(samples), rng) * np.float32(
            10 ** (-rng.uniform(*manner.snr_db) / 20)
        )
    level = 10 ** (rng.uniform(*manner.level_db) / 20)
    return Spoken(tuple(said), np.clip(samples * np.float32(level), -1, 1))


def coloured_noise(length: int, rng: np.random.Generator) -> Samples:
    """Of loudness 1, with a spectrum that falls like 1/f^slope: from white to a rumble."""
    # One length that transforms fast, then a cut.
    spectrum = np.fft.rfft(rng.standard_normal(_MOST_SAMPLES, dtype=np.float32))
    spectrum *= np.exp(_LOG_FREQUENCIES * np.float32(-rng.uniform(0.0, 1.0)))
    shaped = np.fft.irfft(spectrum, _MOST_SAMPLES)[:length]
    return np.asarray(shaped / np.float32(_rms(shaped)), dtype=np.float32)


def _silence(range_s: tuple[float, float], rng: np.random.Generator) -> Samples:
    return np.zeros(round(rng.uniform(*range_s) * SAMPLING_RATE), np.float32)


def _rms(samples: NDArray[np.floating[Any]]) -> float:
    return float(np.sqrt(np.mean(np.square(samples)))) + 1e-6
