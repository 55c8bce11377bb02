"""Pictures that the partitioner makes for itself: to trace, compare and calibrate with when none are given."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Five aspect ratios, from a tall to a wide picture; (width, height) in pixels.
SIZES = ((120, 300), (240, 320), (256, 256), (400, 300), (500, 180))


def constant_picture(width: int = 200, height: int = 150, level: int = 127) -> Image.Image:
    """One grey: the picture on which normalisations and attention have nothing to hold on to."""
    return Image.new("RGB", (width, height), (level, level, level))


def made_picture(seed: int) -> Image.Image:
    """A smooth textured ground with a few coloured shapes on it, the same for the same seed."""
    rng = np.random.default_rng(seed)
    width, height = SIZES[seed % len(SIZES)]
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 6))):
        left, top = rng.integers(0, width * 3 // 4), rng.integers(0, height * 3 // 4)
        size = int(rng.integers(min(width, height) // 8, min(width, height) // 2))
        box = (int(left), int(top), int(left) + size, int(top) + size)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return Image.blend(picture.filter(ImageFilter.GaussianBlur(0.6)), noise, 0.06)


def made_pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """`count` pictures, the first of them constant, the others of all five aspect ratios in turn."""
    return [constant_picture(), *(made_picture(seed + index) for index in range(count - 1))]
