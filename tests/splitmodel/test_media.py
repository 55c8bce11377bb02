"""Media and their sizes: a blank one is as large as the one that it stands for, and says nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from splitmodel.media import Media, blank, size_of
from wire.sizes import ImageSize, Size, SoundSize, TextSize

RATE_HZ = 16_000
MEDIA: list[tuple[Media, Size]] = [
    (Image.linear_gradient("L").convert("RGB").resize((50, 30)), ImageSize(50, 30)),
    (np.linspace(-1, 1, 700, dtype=np.float32), SoundSize(700, RATE_HZ)),
    ("a red circle", TextSize(1)),
]


@pytest.mark.parametrize(("media", "size"), MEDIA, ids=["image", "audio", "text"])
def test_size_is_that_of_the_input_and_of_its_blank_one(media: Media, size: Size) -> None:
    assert size_of(media, RATE_HZ) == size
    assert size_of(blank(size), RATE_HZ) == size


@pytest.mark.parametrize(("media", "size"), MEDIA, ids=["image", "audio", "text"])
def test_blank_input_is_of_its_kind_and_empty(media: Media, size: Size) -> None:
    nothing = blank(size)
    assert type(nothing) is type(media) or isinstance(nothing, Image.Image)
    assert nothing == "" if isinstance(nothing, str) else not np.asarray(nothing).any()
    if isinstance(nothing, np.ndarray):
        assert nothing.dtype == np.float32
