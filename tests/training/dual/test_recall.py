"""Recall: strict by rank both ways, ties are misses, and the ceiling comes from what fits."""

from __future__ import annotations

import numpy as np

from training.dual.recall import recall

_NOTHING_ELSE_FITS = np.eye(3, dtype=np.bool_)


def test_the_own_pair_first_is_a_hit_in_that_direction_alone() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.95, 0.5, 0.4], [0.0, 0.1, 0.8]], dtype=np.float32)
    found = recall(scores, _NOTHING_ELSE_FITS)
    assert found.text_to_picture == {1: 2 / 3, 5: 1.0, 10: 1.0}
    assert found.picture_to_text == {1: 2 / 3, 5: 1.0, 10: 1.0}
    first_row_alone_wrong = np.array([[0.1, 0.9, 0.2], [0.0, 0.95, 0.4], [0.0, 0.1, 0.8]], dtype=np.float32)
    found = recall(first_row_alone_wrong, _NOTHING_ELSE_FITS)
    assert (found.text_to_picture[1], found.picture_to_text[1]) == (2 / 3, 1.0)


def test_equal_scores_are_misses() -> None:
    found = recall(np.zeros((3, 3), dtype=np.float32), _NOTHING_ELSE_FITS)
    assert found.text_to_picture == {1: 0.0, 5: 1.0, 10: 1.0}


def test_another_scene_that_fits_is_a_miss_but_is_told() -> None:
    fitting = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=np.bool_)
    scores = np.array([[0.5, 0.9, 0.2], [0.0, 0.95, 0.4], [0.0, 0.1, 0.8]], dtype=np.float32)
    found = recall(scores, fitting)
    assert found.text_to_picture[1] == 2 / 3
    assert found.fits_at_1 == 1.0
    assert found.ceiling == (0.5 + 1 + 1) / 3
