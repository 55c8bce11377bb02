"""What goes into an encoder: pictures, sounds and texts, how large they are, and blank ones of the same size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize, TextSize

# An upright RGB picture; one channel of a sound at the model's rate, [samples] float32; a text.
Media = Image.Image | NDArray[np.float32] | str


@dataclass(frozen=True, slots=True, eq=False)
class MediaInput:
    """One input of a request, as the model's own processor takes it."""

    modality: Modality
    media: Media


def size_of(media: Media, rate_hz: int = 0) -> Size:
    """`rate_hz` is the model's, for a sound. A text's size is known to its tokenizer alone: 1 stands for it."""
    if isinstance(media, Image.Image):
        return ImageSize(media.width, media.height)
    if isinstance(media, str):
        return TextSize(1)
    return SoundSize(len(media), rate_hz)


def blank(size: Size) -> Media:
    """Media that say nothing but how large they are."""
    match size:
        case ImageSize():
            return Image.new("RGB", (size.width, size.height))
        case SoundSize():
            return np.zeros(size.samples, np.float32)
        case _:
            return ""
