"""Pictures: what is read back is what was rendered, and it is rendered once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.dual.pictures import FIRST_SEED, rendered
from training.scenes import scene


def test_pictures_are_rendered_once_and_read_back_the_same(tmp_path: Path) -> None:
    made: list[int] = []
    rendered(tmp_path, 6, made.append)
    assert sum(made) == 6
    found = rendered(tmp_path, 4, made.append)
    assert sum(made) == 6
    assert len(found.pixels) == len(found.things) == 4
    for index in range(4):
        one = scene(FIRST_SEED + index)
        assert found.things[index] == one.things
        assert np.array_equal(found.pixels[index], np.asarray(one.image))


def test_more_pictures_are_rendered_where_the_folder_holds_too_few(tmp_path: Path) -> None:
    made: list[int] = []
    rendered(tmp_path, 2, made.append)
    assert len(rendered(tmp_path, 3, made.append).things) == 3
    assert sum(made) == 5


def test_pictures_of_an_interrupted_rendering_are_not_used(tmp_path: Path) -> None:
    made: list[int] = []
    rendered(tmp_path, 3, made.append)
    (tmp_path / "things.json").unlink()
    assert len(rendered(tmp_path, 3, made.append).things) == 3
    assert sum(made) == 6
