"""Scenes: the same seed gives the same scene, things lie apart, and held-out digits stay out of training."""

from __future__ import annotations

import numpy as np

from training.scenes import DIGIT, FIRST_HELD_OUT_SEED, PLACES, SIDE, digit_candidates, scene

_CELL = SIDE / 3


def test_same_seed_gives_same_scene() -> None:
    for seed in (0, 7, FIRST_HELD_OUT_SEED + 3):
        first, again = scene(seed), scene(seed)
        assert first.things == again.things
        assert first.image.tobytes() == again.image.tobytes()


def test_other_seed_gives_other_scene() -> None:
    assert len({scene(seed).image.tobytes() for seed in range(20)}) == 20


def test_things_lie_in_their_own_cells() -> None:
    for seed in range(200):
        things = scene(seed, is_crowded=seed % 2 == 0).things
        assert len({thing.place for thing in things}) == len(things)
        for thing in things:
            left, top, right, bottom = thing.box
            row, column = divmod(thing.place, 3)
            assert 0 <= left < right <= SIDE
            assert 0 <= top < bottom <= SIDE
            assert column == int((left + right) / 2 / _CELL)
            assert row == int((top + bottom) / 2 / _CELL)


def test_a_thing_covers_its_box() -> None:
    for seed in range(50):
        one = scene(seed)
        pixels = np.asarray(one.image, dtype=float)
        for thing in one.things:
            left, top, right, bottom = thing.box
            inside = pixels[top:bottom, left:right].reshape(-1, 3).std(axis=0).sum()
            assert inside > 10, (seed, thing)


def test_scene_has_at_most_one_digit_unless_crowded() -> None:
    for seed in range(200):
        assert sum(thing.kind == DIGIT for thing in scene(seed).things) <= 1


def test_held_out_digits_are_disjoint_from_training_digits() -> None:
    for value in range(10):
        trained = set(digit_candidates(value, is_held_out=False).tolist())
        held_out = set(digit_candidates(value, is_held_out=True).tolist())
        assert not trained & held_out
        assert len(held_out) >= 15
        assert len(trained) >= 100


def test_places_name_the_grid() -> None:
    assert len(PLACES) == 9
    assert PLACES[4] == "center"
