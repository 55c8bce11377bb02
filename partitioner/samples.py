"""Inputs that the partitioner makes for itself: to trace, compare and calibrate with when none are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from partitioner.pictures import made_pictures
from splitmodel.adapters.base import Adapter
from splitmodel.media import Media
from splitmodel.recipes import most_samples
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize

# Sounds from a click to longer than most windows.
_SECONDS = (0.1, 1.0, 2.5, 4.0, 6.0)
# The longest of the sounds listed where a model reads any length.
_LONGEST_S = 16
_WORDS = "a red blue green small large circle square star dog photo of the and two three beside".split()


def made_samples(adapter: Adapter, modality: Modality, count: int, seed: int = 0) -> list[Media]:
    """`count` inputs, the first of them constant, the others of several sizes in turn; the same for the same seed.

    No sound is longer than what the model's feature extractor reads whole.
    """
    match modality:
        case "image":
            return [*made_pictures(count, seed)]
        case "audio":
            rate_hz, most = adapter.processing.rate_hz, most_samples(adapter)
            others = [_sound(seed + i, rate_hz, _SECONDS[i % len(_SECONDS)]) for i in range(count - 1)]
            return [sound[:most] for sound in (np.zeros(rate_hz, np.float32), *others)]
        case _:
            return ["", *(_text(seed + i) for i in range(count - 1))]


def fitted(media: Media, size: Size | None) -> Media:
    """Media of that size: a picture scaled and padded, a sound cut or padded with silence."""
    if isinstance(media, Image.Image) and isinstance(size, ImageSize):
        return ImageOps.pad(media.convert("RGB"), (size.width, size.height))
    if isinstance(media, np.ndarray) and isinstance(size, SoundSize):
        cut = media[: size.samples]
        return np.pad(cut, (0, size.samples - len(cut)))
    return media


def default_sizes(adapter: Adapter, modality: Modality) -> Sequence[Size]:
    """The input shapes to list where the processor makes another one of every size, and none are named."""
    if modality == "image":
        return [ImageSize(640, 480), ImageSize(480, 640), ImageSize(512, 512)]
    rate_hz = adapter.processing.rate_hz
    most = most_samples(adapter) or _LONGEST_S * rate_hz
    return [SoundSize(most // parts, rate_hz) for parts in (8, 4, 1)]


def _sound(seed: int, rate_hz: int, seconds: float) -> NDArray[np.float32]:
    """Gliding tones with overtones, swelling and fading, over faint noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    sound = 0.01 * rng.standard_normal(len(time))
    for _ in range(3):
        start, glide = rng.uniform(90, 300), rng.uniform(-40, 40)
        phase = 2 * np.pi * (start * time + glide * time**2 / 2)
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.5, 4) * time + rng.uniform(0, 6))
        for overtone in range(1, 6):
            sound += 0.1 * swell * rng.uniform(0.2, 1) / overtone * np.sin(overtone * phase)
    return sound.astype(np.float32)


def _text(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(_WORDS, size=int(rng.integers(1, 12))))
