"""Scenes: one to four things on a textured ground, rendered from a seed. A thing is a shape or a handwritten digit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 128  # pixels
SHAPES = ("circle", "square", "triangle", "star", "cross")
DIGIT = "digit"
SIZES = ("small", "large")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 165, 55),
    "blue": (40, 75, 215),
    "yellow": (240, 220, 40),
    "purple": (150, 50, 190),
    "orange": (245, 135, 25),
    "white": (248, 248, 248),
    "black": (12, 12, 12),
}
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip

# Seeds from here on are held out: their scenes use only handwritten digits that training never shows.
FIRST_HELD_OUT_SEED = 1 << 40
_HELD_OUT_DIGITS = 0.15
_OVERSAMPLING = 3
_SIZE_PIXELS = {"small": (19, 25), "large": (33, 39)}
_DIGIT_PIXELS = (28, 37)


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a scene; `digit` is its value where kind is DIGIT, whose size is never asked about."""

    kind: str
    colour: str
    size: str
    place: int  # index into PLACES
    digit: int | None
    box: tuple[int, int, int, int]  # left, top, right, bottom, pixels


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture of SIDE x SIDE pixels and what is on it, in reading order."""

    seed: int
    image: Image.Image
    things: tuple[Thing, ...]


def scene(seed: int, *, is_crowded: bool = False) -> Scene:
    """The scene of that seed, always the same one. A crowded one, for dense supervision, fills most places."""
    rng = np.random.default_rng(seed)
    count = (
        int(rng.integers(5, 10)) if is_crowded else int(rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.25, 0.2]))
    )
    places = sorted(int(place) for place in rng.choice(len(PLACES), count, replace=False))
    image = Image.fromarray(_ground(rng))
    things: list[Thing] = []
    digit_index = int(rng.integers(count)) if rng.random() < 0.5 else -1
    for index, place in enumerate(places):
        is_digit = rng.random() < 0.5 if is_crowded else index == digit_index
        thing = _thing(rng, place, things, is_digit=is_digit)
        _draw(image, thing, rng, is_held_out=seed >= FIRST_HELD_OUT_SEED)
        things.append(thing)
    return Scene(seed, image, tuple(things))


def _thing(rng: np.random.Generator, place: int, others: list[Thing], *, is_digit: bool) -> Thing:
    """Shares its colour, shape or size with an earlier thing often enough for "the same?" to be a question."""
    like = others[int(rng.integers(len(others)))] if others else None
    colour = like.colour if like and rng.random() < 0.3 else str(rng.choice(list(COLOURS)))
    kind = like.kind if like and like.kind != DIGIT and rng.random() < 0.25 else str(rng.choice(SHAPES))
    size = like.size if like and rng.random() < 0.2 else str(rng.choice(SIZES))
    digit = int(rng.integers(10)) if is_digit else None
    least, most = _DIGIT_PIXELS if is_digit else _SIZE_PIXELS[size]
    pixels = int(rng.integers(least, most + 1))
    cell = SIDE / 3
    slack = (cell - pixels) / 2
    row, column = divmod(place, 3)
    left, top = (round(index * cell + slack + rng.uniform(-0.85, 0.85) * slack) for index in (column, row))
    return Thing(
        DIGIT if is_digit else kind, colour, size, place, digit, (left, top, left + pixels, top + pixels)
    )


def _draw(image: Image.Image, thing: Thing, rng: np.random.Generator, *, is_held_out: bool) -> None:
    left, top, right, _ = thing.box
    pixels = right - left
    mask = (
        _digit_mask(thing.digit, pixels, rng, is_held_out)
        if thing.digit is not None
        else _shape_mask(thing.kind, pixels, rng)
    )
    jitter = rng.integers(-12, 13, 3)
    colour = tuple(int(value) for value in np.clip(np.array(COLOURS[thing.colour]) + jitter, 0, 255))
    image.paste(Image.new("RGB", mask.size, colour), (left, top), mask)


def _shape_mask(kind: str, pixels: int, rng: np.random.Generator) -> Image.Image:
    """Opaque where the shape is; drawn larger and scaled down for smooth edges."""
    side = pixels * _OVERSAMPLING
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    if kind == "circle":
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
    else:
        angle = float(rng.uniform(-0.2, 0.2))
        draw.polygon([tuple(point) for point in _outline(kind, angle) * (side - 1)], fill=255)
    return mask.resize((pixels, pixels), Image.Resampling.BOX)


def _outline(kind: str, angle: float) -> NDArray[np.float64]:
    """Corners within the unit square, turned by an angle in radians."""
    if kind == "square":
        points = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.84
    elif kind == "triangle":
        points = np.array([(0, -1), (0.95, 0.75), (-0.95, 0.75)])
    elif kind == "cross":
        arm = 0.33
        quarter = np.array([(-arm, -1), (arm, -1), (arm, -arm)])
        points = np.concatenate([quarter @ _rotation(k * np.pi / 2).T for k in range(4)]) * 0.95
    else:
        corners = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        points = np.stack([np.cos(corners), np.sin(corners)], axis=1) * radii[:, None]
    return np.asarray(np.clip(points @ _rotation(angle).T, -1, 1) / 2 + 0.5)


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])


@cache
def _digits() -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """scikit-learn's 1,797 handwritten digits, their values, and which of them are held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    held_out = np.random.default_rng(0).random(len(data.target)) < _HELD_OUT_DIGITS
    return (data.images * (255 / 16)).astype(np.uint8), data.target, held_out


def digit_candidates(value: int, *, is_held_out: bool) -> NDArray[np.int64]:
    """Which of scikit-learn's pictures show that digit and are, or are not, held out."""
    _, targets, held_out = _digits()
    return np.flatnonzero((targets == value) & (held_out == is_held_out))


def _digit_mask(value: int, pixels: int, rng: np.random.Generator, is_held_out: bool) -> Image.Image:
    """A handwritten digit, slanted, stretched and turned a little; its strokes are opaque."""
    image = Image.fromarray(_digits()[0][int(rng.choice(digit_candidates(value, is_held_out=is_held_out)))])
    side, slant = 8 / pixels, float(rng.uniform(-0.12, 0.12))
    wide, high = rng.uniform(0.92, 1.12, 2) * side
    middle = (pixels - 1) / 2
    matrix = (wide, slant * side, 4 - (wide + slant * side) * middle, 0.0, high, 4 - high * middle)
    drawn = image.transform((pixels, pixels), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    turned = drawn.rotate(float(rng.uniform(-8, 8)), Image.Resampling.BILINEAR)
    threshold = int(rng.integers(45, 76))
    return turned.point([min(255, max(0, (level - threshold) * 2)) for level in range(256)])


def _ground(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A texture of muted colours between which black and white things both stand out."""
    base, other = rng.uniform(85, 175, (2, 1, 1, 3)) * 0.35 + rng.uniform(85, 175, (2, 1, 1, 1)) * 0.65
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    kind = int(rng.integers(5))
    if kind == 0:
        mix = np.zeros((SIDE, SIDE))
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        mix = np.cos(angle) * rows + np.sin(angle) * columns
    elif kind == 2:
        angle, frequency = rng.uniform(0, np.pi), rng.uniform(4, 12)
        mix = (np.sin(2 * np.pi * frequency * (np.cos(angle) * rows + np.sin(angle) * columns)) > 0) * 0.5
    elif kind == 3:
        squares = int(rng.integers(4, 12))
        mix = ((rows * squares).astype(int) + (columns * squares).astype(int)) % 2 * 0.5
    else:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
        mix = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
    ground = base + (other - base) * mix[..., None]
    noise = rng.normal(0, rng.uniform(1, 9), (SIDE, SIDE, 3))
    return np.asarray(np.clip(ground + noise, 0, 255), dtype=np.uint8)
