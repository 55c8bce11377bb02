"""Which captions fit which scenes, from what they say alone: no model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from training.dual.captions import Caption, Phrase, phrase
from training.scenes import COLOURS, DIGIT, SHAPES, SIZES, Thing

_KINDS = (*SHAPES, DIGIT)
_COLOURS = tuple(COLOURS)
_MOST_THINGS = 4
_NUM_PROPERTIES = 5
_OPEN = -1  # a phrase says nothing of it
_UNTOLD = -2  # a thing has none, such as a digit's size: nothing said of it is true


def fits(captions: Sequence[Caption], scenes: Sequence[tuple[Thing, ...]]) -> NDArray[np.bool_]:
    """[captions, scenes]: whether each phrase can be given a thing of its own that it is true of, and for a
    whole caption, whether no thing is left over."""
    said, num_phrases = _table([one.phrases for one in captions], _OPEN)
    there, num_things = _table([[phrase(thing) for thing in things] for things in scenes], _UNTOLD)
    num_left = num_things[None] - num_phrases[:, None]
    counts = (num_left >= 0) & ((num_left == 0) | ~np.array([one.is_whole for one in captions])[:, None])
    is_true = _is_true(said, there)
    exists = np.arange(_MOST_THINGS)[None] < num_things[:, None]  # [scenes, things]
    is_phrase = np.arange(_MOST_THINGS)[None] < num_phrases[:, None]  # [captions, phrases]
    is_true = (is_true & exists[None, :, None, :]) | ~is_phrase[:, None, :, None]
    found = np.zeros(counts.shape, dtype=np.bool_)
    for order in permutations(range(_MOST_THINGS)):
        found |= is_true[:, :, range(_MOST_THINGS), order].all(-1)
    return np.asarray(found & counts)


def _is_true(said: NDArray[np.int8], there: NDArray[np.int8]) -> NDArray[np.bool_]:
    """[captions, scenes, phrases, things]."""
    shape = (len(said), len(there), _MOST_THINGS, _MOST_THINGS)
    result = np.ones(shape, dtype=np.bool_)
    for index in range(_NUM_PROPERTIES):
        wanted, value = said[:, None, :, None, index], there[None, :, None, :, index]
        result &= (wanted == _OPEN) | (wanted == value)
    return result


def _table(rows: Sequence[Sequence[Phrase]], missing: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """[rows, things, properties], and how many of each row's things are there."""
    table = np.full((len(rows), _MOST_THINGS, _NUM_PROPERTIES), missing, dtype=np.int8)
    for row, phrases in zip(table, rows, strict=True):
        for index, one in enumerate(phrases):
            row[index] = _coded(one, missing)
    return table, np.array([len(phrases) for phrases in rows])


def _coded(one: Phrase, missing: int) -> tuple[int, ...]:
    return (
        missing if one.kind is None else _KINDS.index(one.kind),
        missing if one.colour is None else _COLOURS.index(one.colour),
        missing if one.size is None else SIZES.index(one.size),
        missing if one.place is None else one.place,
        missing if one.digit is None else one.digit,
    )
