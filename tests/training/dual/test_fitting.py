"""What fits: the table agrees with a slow and plain reading, and with cases told by hand."""

from __future__ import annotations

import numpy as np

from tests.training.dual import reading
from training.dual.captions import STYLES, Caption, Phrase, caption, phrase
from training.dual.fitting import fits
from training.scenes import DIGIT, Thing, scene

_BOX = (0, 0, 20, 20)
_RED_CIRCLE = Thing("circle", "red", "small", 0, None, _BOX)
_BLUE_CIRCLE = Thing("circle", "blue", "large", 4, None, _BOX)
_RED_SEVEN = Thing(DIGIT, "red", "small", 8, 7, _BOX)


def _fits(phrases: tuple[Phrase, ...], is_whole: bool, *things: Thing) -> bool:
    return bool(fits([Caption("", phrases, is_whole)], [things])[0, 0])


def test_table_agrees_with_a_plain_reading() -> None:
    rng = np.random.default_rng(0)
    scenes = [scene(seed).things for seed in range(30)]
    captions = [caption(things, style, rng) for style in STYLES for things in scenes]
    told = [[phrase(thing) for thing in things] for things in scenes]
    plain = np.array([[reading.fits(*reading.read(one.text), things) for things in told] for one in captions])
    assert np.array_equal(fits(captions, scenes), plain)
    assert plain.sum() > 2 * len(captions)  # other scenes fit as well, or nothing was compared


def test_a_whole_caption_leaves_no_thing_over() -> None:
    red = (Phrase(kind="circle", colour="red"),)
    assert _fits(red, True, _RED_CIRCLE)
    assert not _fits(red, True, _RED_CIRCLE, _BLUE_CIRCLE)
    assert _fits(red, False, _RED_CIRCLE, _BLUE_CIRCLE)


def test_two_phrases_need_two_things() -> None:
    both = (Phrase(kind="circle"), Phrase(colour="red"))
    assert not _fits(both, False, _RED_CIRCLE)
    assert _fits(both, False, _RED_CIRCLE, _BLUE_CIRCLE)
    assert _fits(both, False, _BLUE_CIRCLE, _RED_SEVEN)


def test_properties_are_not_mixed_between_things() -> None:
    assert not _fits((Phrase(kind="circle", size="large", colour="red"),), False, _RED_CIRCLE, _BLUE_CIRCLE)


def test_a_digit_has_no_size() -> None:
    assert not _fits((Phrase(size="small"),), False, _RED_SEVEN)
    assert _fits((Phrase(kind=DIGIT, digit=7),), False, _RED_SEVEN)
    assert not _fits((Phrase(kind=DIGIT, digit=1),), False, _RED_SEVEN)
