"""Captions of a scene, in varied words, and what exactly each one says, so that what fits it can be computed.

A *description* names every thing of the scene, and its first words say so ("a picture of ...", "three things:
..."); it is full when it tells all there is to tell of each. A *query* names one or two things, as one would
search ("a red circle", "a picture with a star"): other things may be there. What is left out is left open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.questions import NUMBERS
from training.scenes import DIGIT, PLACES, Thing

Style = Literal["full", "partial", "count", "query"]
STYLES: tuple[Style, ...] = ("full", "partial", "count", "query")

_WHOLE = (
    "a picture of", "an image of", "the picture shows", "this is", "the scene has only", "nothing but",
    "all that is here:",
)  # fmt: skip
_SOME = ("", "", "", "a picture with", "an image with", "there is", "somewhere", "find", "show me")
_SIZE_WORDS = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}
_DIGIT_WORDS = "zero one two three four five six seven eight nine".split()
_CORNER = ("in the {}", "in the {}", "at the {}", "in the {} corner")
_EDGE = {
    "top": ("at the top", "in the top middle"),
    "bottom": ("at the bottom", "in the bottom middle"),
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "center": ("in the center", "in the centre", "in the middle"),
}
# How often a partial description leaves a property open.
_OPEN = {"place": 0.35, "size": 0.4, "colour": 0.15, "kind": 0.1, "digit": 0.15}


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a caption says of one thing; None is left open."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    place: int | None = None
    digit: int | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption. It fits a scene whose things match its phrases, one each; a whole one only if no thing is left."""

    text: str
    phrases: tuple[Phrase, ...]
    is_whole: bool


def caption(things: tuple[Thing, ...], style: Style, rng: np.random.Generator) -> Caption:
    """A caption of that style that fits the scene, worded by `rng`."""
    return _MAKERS[style](things, rng)


def phrase(thing: Thing) -> Phrase:
    """All there is to tell of a thing; of a digit, no size."""
    size = None if thing.kind == DIGIT else thing.size
    return Phrase(thing.kind, thing.colour, size, thing.place, thing.digit)


def _full(things: tuple[Thing, ...], rng: np.random.Generator) -> Caption:
    return _description([phrase(thing) for thing in things], rng)


def _partial(things: tuple[Thing, ...], rng: np.random.Generator) -> Caption:
    return _description([_opened(phrase(thing), rng) for thing in things], rng)


def _description(phrases: list[Phrase], rng: np.random.Generator) -> Caption:
    if rng.random() < 0.4:
        phrases = [phrases[index] for index in rng.permutation(len(phrases))]
    number = "one thing:" if len(phrases) == 1 else f"{NUMBERS[len(phrases)]} things:"
    lead = _pick(rng, *_WHOLE, number, number, number)
    return Caption(f"{lead} {_listed(phrases, lead, rng)}{_pick(rng, '', '', '.')}", tuple(phrases), True)


def _count(things: tuple[Thing, ...], rng: np.random.Generator) -> Caption:
    """How many there are, or how many of each kind or of each colour."""
    by = _pick(rng, "thing", "kind", "colour")
    phrases = [
        Phrase(kind=thing.kind if by == "kind" else None, colour=thing.colour if by == "colour" else None)
        for thing in things
    ]
    groups = [
        f"{NUMBERS[phrases.count(one)]} {_plural(one, phrases.count(one))}" for one in dict.fromkeys(phrases)
    ]
    lead = _pick(rng, *_WHOLE)
    return Caption(f"{lead} {_joined(groups, rng)}", tuple(phrases), True)


def _query(things: tuple[Thing, ...], rng: np.random.Generator) -> Caption:
    number = min(len(things), 1 if rng.random() < 0.7 else 2)
    chosen = [things[index] for index in rng.choice(len(things), number, replace=False)]
    phrases = [_opened(phrase(thing), rng, more=1.6) for thing in chosen]
    lead = _pick(rng, *_SOME)
    return Caption(f"{lead} {_listed(phrases, lead, rng)}".strip(), tuple(phrases), False)


_MAKERS: dict[Style, Callable[[tuple[Thing, ...], np.random.Generator], Caption]] = {
    "full": _full, "partial": _partial, "count": _count, "query": _query,
}  # fmt: skip


def _opened(one: Phrase, rng: np.random.Generator, more: float = 1.0) -> Phrase:
    """The same with less said, but never nothing."""
    said = {name: value for name in _OPEN if (value := getattr(one, name)) is not None}
    kept = {name: value for name, value in said.items() if rng.random() >= _OPEN[name] * more}
    if "kind" not in kept:
        kept.pop("digit", None)
    return Phrase(**kept) if kept else Phrase(kind=one.kind)


def _listed(phrases: list[Phrase], lead: str, rng: np.random.Generator) -> str:
    is_sentence = bool(lead) and not lead.endswith(":")  # after "this is" stands a thing, not a place
    parts = [_worded(one, rng, can_turn=index > 0 or not is_sentence) for index, one in enumerate(phrases)]
    return _joined(parts, rng)


def _worded(one: Phrase, rng: np.random.Generator, *, can_turn: bool) -> str:
    """`a small red circle in the top left`, or turned `in the middle a blue digit 7`; `something green`."""
    words = [_pick(rng, *_SIZE_WORDS[one.size])] if one.size else []
    words += [one.colour] if one.colour else []
    words.append(_noun(one, rng))
    text = " ".join(words)
    text = f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
    if not one.kind and one.colour and not one.size and rng.random() < 0.4:
        text = f"something {one.colour}"
    if one.place is None:
        return text
    place = _placed(PLACES[one.place], rng)
    return f"{place} {text}" if can_turn and rng.random() < 0.25 else f"{text} {place}"


def _noun(one: Phrase, rng: np.random.Generator) -> str:
    if one.kind != DIGIT:
        return one.kind or "thing"
    noun = _pick(rng, "digit", "digit", "number", "handwritten digit")
    return noun if one.digit is None else f"{noun} {_pick(rng, str(one.digit), _DIGIT_WORDS[one.digit])}"


def _plural(one: Phrase, number: int) -> str:
    noun = one.kind or "thing"
    if number > 1:
        noun = f"{noun}es" if noun == "cross" else f"{noun}s"
    return f"{one.colour} {noun}" if one.colour else noun


def _placed(place: str, rng: np.random.Generator) -> str:
    if place in _EDGE:
        return _pick(rng, *_EDGE[place])
    if rng.random() < 0.2:
        place = place.replace("top", "upper").replace("bottom", "lower")
    return _pick(rng, *_CORNER).format(place)


def _joined(parts: list[str], rng: np.random.Generator) -> str:
    last = _pick(rng, " and ", " and ", ", and ", ", ")
    return ", ".join(parts[:-1]) + (last if len(parts) > 1 else "") + parts[-1]


def _pick(rng: np.random.Generator, *texts: str) -> str:
    return texts[int(rng.integers(len(texts)))]
