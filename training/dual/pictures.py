"""Pictures to learn from: scenes rendered once, kept in a folder, read without loading them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.scenes import SIDE, Thing, scene

FIRST_SEED = 5 << 32  # far from the scenes that the default model learnt from
_PIXELS = "pixels.npy"
_THINGS = "things.json"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Rendered scenes: what is seen, and what is there."""

    pixels: NDArray[np.uint8]  # [scenes, SIDE, SIDE, 3]
    things: Sequence[tuple[Thing, ...]]


def render(first_seed: int, count: int) -> Pictures:
    """The scenes from that seed on, in memory."""
    scenes = [scene(seed) for seed in range(first_seed, first_seed + count)]
    return Pictures(np.stack([np.asarray(one.image) for one in scenes]), [one.things for one in scenes])


def rendered(folder: Path, count: int, advance: Callable[[int], None]) -> Pictures:
    """The first `count` training scenes; rendered into the folder where it does not hold as many yet."""
    if not (folder / _THINGS).is_file() or len(_read_things(folder)) < count:
        _write(folder, count, advance)
    pixels = np.load(folder / _PIXELS, mmap_mode="r")
    return Pictures(pixels[:count], _read_things(folder)[:count])


def _write(folder: Path, count: int, advance: Callable[[int], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _THINGS).unlink(missing_ok=True)  # written last: where it stands, the pixels are whole
    pixels = np.lib.format.open_memmap(
        folder / _PIXELS, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3)
    )
    listed = []
    for index in range(count):
        one = scene(FIRST_SEED + index)
        pixels[index] = np.asarray(one.image)
        listed.append([asdict(thing) for thing in one.things])
        advance(1)
    pixels.flush()
    (folder / f"{_THINGS}.part").write_text(json.dumps(listed))
    (folder / f"{_THINGS}.part").replace(folder / _THINGS)


def _read_things(folder: Path) -> list[tuple[Thing, ...]]:
    listed = json.loads((folder / _THINGS).read_text())
    return [tuple(Thing(**{**one, "box": tuple(one["box"])}) for one in things) for things in listed]
