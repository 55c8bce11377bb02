"""Captions: an independent reading of the words says of the scene what the caption claims, and what is true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.training.dual.reading import fits, read
from training.dual.captions import STYLES, Caption, Style, caption, phrase
from training.scenes import FIRST_HELD_OUT_SEED, Thing, scene

_SEEDS = (*range(80), *range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 20))


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Thing, ...]]:
    return [scene(seed).things for seed in _SEEDS]


def _captions(scenes: list[tuple[Thing, ...]], style: Style) -> list[Caption]:
    rng = np.random.default_rng(0)
    return [caption(things, style, rng) for things in scenes]


@pytest.mark.parametrize("style", STYLES)
def test_words_say_what_the_caption_claims_and_it_is_true(
    scenes: list[tuple[Thing, ...]], style: Style
) -> None:
    for things, one in zip(scenes, _captions(scenes, style), strict=True):
        phrases, is_whole = read(one.text)
        assert Counter(phrases) == Counter(one.phrases), one.text
        assert is_whole == one.is_whole, one.text
        assert fits(phrases, is_whole, [phrase(thing) for thing in things]), one.text


def test_a_full_description_tells_everything(scenes: list[tuple[Thing, ...]]) -> None:
    for things, one in zip(scenes, _captions(scenes, "full"), strict=True):
        phrases, is_whole = read(one.text)
        assert is_whole
        assert Counter(phrases) == Counter(phrase(thing) for thing in things), one.text


def test_a_partial_description_names_everything_and_leaves_some_of_it_open(
    scenes: list[tuple[Thing, ...]],
) -> None:
    found = _captions(scenes, "partial")
    assert all(len(one.phrases) == len(things) for things, one in zip(scenes, found, strict=True))
    shorter = [
        Counter(one.phrases) != Counter(map(phrase, things))
        for things, one in zip(scenes, found, strict=True)
    ]
    assert 0.8 < sum(shorter) / len(shorter) < 1


def test_a_query_names_one_or_two_things(scenes: list[tuple[Thing, ...]]) -> None:
    assert {len(one.phrases) for one in _captions(scenes, "query")} == {1, 2}


def test_the_same_scene_is_told_in_many_words() -> None:
    things = next(one.things for one in map(scene, range(50)) if len(one.things) == 3)
    rng = np.random.default_rng(0)
    assert len({caption(things, "full", rng).text for _ in range(50)}) > 40


def test_the_same_generator_gives_the_same_caption() -> None:
    things = scene(3).things
    first, again = (caption(things, "partial", np.random.default_rng(7)) for _ in range(2))
    assert first == again
