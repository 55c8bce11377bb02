"""English digits from espeak-ng's voices (Debian: `apt-get install espeak-ng`): single words and whole phrases."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from training.speech.recordings import SAMPLING_RATE, Samples
from training.speech.strings import Clip
from training.speech.words import text_of

_ACCENTS = (
    "en-gb", "en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip
_VARIANTS = (
    "", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5",
    "klatt", "klatt2", "klatt3", "linda", "steph", "quincy", "zac", "max", "robert", "grandma",
)  # fmt: skip
_LONGEST_PHRASE = 6  # digits
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Voice:
    """How espeak-ng speaks: an accent and variant, a pitch of 0 to 99, words per minute."""

    name: str
    pitch: int = 50
    speed: int = 160


def random_voice(rng: random.Random) -> Voice:
    variant = rng.choice(_VARIANTS)
    name = rng.choice(_ACCENTS) + (f"+{variant}" if variant else "")
    return Voice(name, rng.randint(20, 80), rng.randint(110, 210))


def speak(text: str, voice: Voice) -> Samples:
    """What espeak-ng says, without the silence around it."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise SystemExit("espeak-ng was not found: install it (Debian: apt-get install espeak-ng)")
    setting = ["-v", voice.name, "-p", str(voice.pitch), "-s", str(voice.speed)]
    spoken = subprocess.run(
        [program, *setting, "--stdout", text], check=True, capture_output=True, timeout=_TIMEOUT_S
    ).stdout
    with wave.open(io.BytesIO(spoken)) as sound:
        rate = sound.getframerate()
        # A stream's header says no length: what is there is what was said.
        pcm = np.frombuffer(sound.readframes(len(spoken) // 2), dtype="<i2").astype(np.float32) / 32768
    return _trimmed(np.asarray(soxr.resample(pcm, rate, SAMPLING_RATE), dtype=np.float32))


def spoken_words(seed: int, num_voices: int) -> Iterator[Clip]:
    """Every digit in each of so many voices, one word at a time."""
    rng = random.Random(seed)
    for index in range(num_voices):
        voice = random_voice(rng)
        for digit in range(10):
            yield Clip(f"voice {index}", (digit,), speak(text_of((digit,), "en"), voice))


def spoken_phrases(seed: int, count: int) -> Iterator[Clip]:
    """Digits said in one go, each phrase in a voice of its own."""
    rng = random.Random(seed)
    for _ in range(count):
        digits = tuple(rng.randrange(10) for _ in range(rng.randint(1, _LONGEST_PHRASE)))
        yield Clip("phrases", digits, speak(phrase(digits, rng), random_voice(rng)))


def phrase(digits: Sequence[int], rng: random.Random) -> str:
    """With a short pause, or none, after each word."""
    return rng.choice((" ", ", ")).join(text_of((digit,), "en") for digit in digits)


def _trimmed(samples: Samples) -> Samples:
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max(initial=1e-6))
    return samples[loud[0] : loud[-1] + 1] if loud.size else samples
