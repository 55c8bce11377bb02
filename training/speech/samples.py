"""Writes the sample sounds: phrases of digits in espeak-ng voices that training never used, with their words.

Each is a mono WAV at 8 kHz, written in all three languages by the checkpoint, or the next phrase takes its place.

    python -m training.speech.samples --model assets/speech --out assets/samples
"""

from __future__ import annotations

import json
import random
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import AutoProcessor, WhisperForConditionalGeneration

from training.speech.evaluate import TASK, written
from training.speech.recordings import SAMPLING_RATE, Samples
from training.speech.strings import Clip
from training.speech.voices import phrase, random_voice, speak
from training.speech.words import LANGUAGES, text_of

LISTED = "speech.json"
_LENGTHS = (1, 3, 4, 6)  # digits
_SECONDS = (0.3, 5.0)
_FIRST_SEED = 1 << 20  # training's seeds lie far below
_MOST_TRIED = 50  # phrases of each length
_EDGE = np.zeros(SAMPLING_RATE // 5, np.float32)


def candidates(num_digits: int) -> Iterator[Clip]:
    """Phrases of so many digits, with a little silence around them, in the order of seeds."""
    for seed in range(_FIRST_SEED, _FIRST_SEED + _MOST_TRIED):
        rng = random.Random(seed)
        digits = tuple(rng.sample(range(10), num_digits))
        spoken = speak(phrase(digits, rng), random_voice(rng))
        samples = np.concatenate([_EDGE, 0.5 * spoken / np.abs(spoken).max(), _EDGE])
        if _SECONDS[0] <= len(samples) / SAMPLING_RATE <= _SECONDS[1]:
            yield Clip(f"seed {seed}", digits, samples)


def is_written(model: Any, processor: Any, clip: Clip) -> bool:
    """Whether the model writes the clip right in every language."""
    return all(
        list(written(model, processor, [clip.samples], language, TASK[language]))
        == [text_of(clip.digits, language)]
        for language in LANGUAGES
    )


def save_wave(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLING_RATE)
        sound.writeframes(np.round(samples * 32767).astype("<i2").tobytes())


def main(
    model: Annotated[Path, typer.Option(help="The checkpoint that must write them right.")],
    out: Annotated[Path, typer.Option(help="The folder for sounds and speech.json.")],
) -> None:
    """Write the sample sounds."""
    loaded = WhisperForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(model)
    out.mkdir(parents=True, exist_ok=True)
    listed = []
    for num_digits in _LENGTHS:
        right = (clip for clip in candidates(num_digits) if is_written(loaded, processor, clip))
        if (chosen := next(right, None)) is None:
            raise SystemExit(
                f"none of {_MOST_TRIED} phrases of {num_digits} digits is right: train for longer"
            )
        name = f"digits-{num_digits}.wav"
        save_wave(out / name, chosen.samples)
        listed.append({"sound": name} | {str(one): text_of(chosen.digits, one) for one in LANGUAGES})
    (out / LISTED).write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
