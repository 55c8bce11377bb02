"""Questions about a scene with their answers, of nine kinds; one with two right answers is never asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from training.scenes import COLOURS, DIGIT, PLACES, SHAPES, Scene, Thing

KINDS = ("describe", "colour", "shape", "size", "count", "where", "digit", "exists", "same")
NUMBERS = ("zero", "one", "two", "three", "four")
_MOST_DESCRIBED = 3
_DRILL_WEIGHTS = {"count": 2.0, "exists": 2.0, "same": 8.0, "where": 4.0, "shape": 2.0, "describe": 0.5}


@dataclass(frozen=True, slots=True)
class Question:
    """One question, its kind, and the one right answer."""

    kind: str
    text: str
    answer: str


def questions(scene: Scene, count: int) -> list[Question]:
    """Up to `count` questions of different kinds and wordings, chosen by the scene's seed."""
    rng = np.random.default_rng([scene.seed, 1])
    by_kind: dict[str, list[Question]] = {}
    for question in _all(scene.things, rng):
        by_kind.setdefault(question.kind, []).append(question)
    chosen: list[Question] = []
    pools = [list(rng.permutation(np.array(pool, dtype=object))) for pool in by_kind.values()]
    while len(chosen) < count and any(pools):
        for index in rng.permutation(len(pools)):
            if pools[index] and len(chosen) < count:
                chosen.append(pools[index].pop())
    return chosen


def drill(scene: Scene, count: int) -> list[Question]:
    """Up to `count` questions to learn from: those that look for a thing, or compare, come more often."""
    rng = np.random.default_rng([scene.seed, 2])
    found = {question.text: question for _ in range(2) for question in _all(scene.things, rng)}
    asked = list(found.values())
    weights = np.array([_DRILL_WEIGHTS.get(question.kind, 1.0) for question in asked])
    number = min(count, len(asked))
    return [
        asked[index] for index in rng.choice(len(asked), number, replace=False, p=weights / weights.sum())
    ]


def _all(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    for make in _MAKERS:
        yield from make(things, rng)


def name(thing: Thing) -> str:
    """`a small red circle`, or `a blue digit 7`."""
    if thing.kind == DIGIT:
        return f"{_article(thing.colour)} {thing.colour} digit {thing.digit}"
    return f"a {thing.size} {thing.colour} {thing.kind}"


def at(thing: Thing) -> str:
    """`in the top left`, `on the right`, `at the bottom`."""
    place = PLACES[thing.place]
    preposition = {"top": "at", "bottom": "at", "left": "on", "right": "on"}.get(place, "in")
    return f"{preposition} the {place}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _pick(rng: np.random.Generator, *texts: str) -> str:
    return texts[int(rng.integers(len(texts)))]


def _colour_word(rng: np.random.Generator) -> str:
    return "colour" if rng.random() < 0.6 else "color"


def _unique_kinds(things: tuple[Thing, ...]) -> list[Thing]:
    counts = Counter(thing.kind for thing in things)
    return [thing for thing in things if counts[thing.kind] == 1]


def _unique_colours(things: tuple[Thing, ...]) -> list[Thing]:
    counts = Counter(thing.colour for thing in things)
    return [thing for thing in things if counts[thing.colour] == 1]


def _describe(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    if len(things) <= _MOST_DESCRIBED:
        parts = [f"{name(thing)} {at(thing)}" for thing in things]
        answer = ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1] + "."
        text = _pick(rng, "Describe the picture.", "What is in the picture?", "What do you see?")
        yield Question("describe", text, answer)


def _colour(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    word = _colour_word(rng)
    for thing in _unique_kinds(things):
        text = _pick(rng, f"What {word} is the {thing.kind}?", f"What is the {word} of the {thing.kind}?")
        yield Question("colour", text, thing.colour)
    if len(things) == 1:
        yield Question("colour", f"What {word} is the thing?", things[0].colour)


def _shape(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    for thing in _unique_colours(things):
        other = f"Which {'thing' if thing.kind == DIGIT else 'shape'} is {thing.colour}?"
        text = _pick(rng, f"What is the {thing.colour} thing?", other)
        yield Question("shape", text, thing.kind)
    thing = things[int(rng.integers(len(things)))]
    yield Question("shape", f"What is {at(thing)}?", thing.kind)


def _size(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    for thing in _unique_kinds(things):
        if thing.kind != DIGIT:
            text = _pick(rng, f"How big is the {thing.kind}?", f"Is the {thing.kind} small or large?")
            yield Question("size", text, thing.size)


def _count(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    yield Question(
        "count", _pick(rng, "How many things are there?", "How many things do you see?"), NUMBERS[len(things)]
    )
    kind = str(rng.choice([*SHAPES, *(thing.kind for thing in things if thing.kind != DIGIT)]))
    found = sum(thing.kind == kind for thing in things)
    plural = "crosses" if kind == "cross" else f"{kind}s"
    yield Question("count", f"How many {plural} are there?", NUMBERS[found])
    colour = str(rng.choice([*COLOURS, *(thing.colour for thing in things)]))
    found = sum(thing.colour == colour for thing in things)
    yield Question("count", f"How many {colour} things are there?", NUMBERS[found])


def _where(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    for thing in _unique_kinds(things):
        yield Question("where", f"Where is the {thing.kind}?", PLACES[thing.place])
    for thing in _unique_colours(things):
        yield Question("where", f"Where is the {thing.colour} thing?", PLACES[thing.place])


def _digit(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    for thing in things:
        if thing.digit is not None:
            text = _pick(rng, "Which digit is shown?", "What number is in the picture?", "Which digit is it?")
            yield Question("digit", text, str(thing.digit))


def _exists(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    shapes = [thing for thing in things if thing.kind != DIGIT]
    for wanted in (True, False):
        if wanted and not shapes:
            continue
        like = shapes[int(rng.integers(len(shapes)))] if shapes else None
        kind, colour = (
            (like.kind, like.colour) if like else (str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS))))
        )
        if not wanted:
            # Half of the absent ones differ from a present one in a single respect.
            kind = str(rng.choice(SHAPES)) if rng.random() < 0.5 else kind
            colour = str(rng.choice(list(COLOURS)))
        is_there = any((thing.kind, thing.colour) == (kind, colour) for thing in things)
        text = _pick(
            rng,
            f"Is there {_article(colour)} {colour} {kind}?",
            f"Do you see {_article(colour)} {colour} {kind}?",
        )
        yield Question("exists", text, "yes" if is_there else "no")
    is_there = any(thing.kind == DIGIT for thing in things)
    yield Question("exists", "Is there a digit?", "yes" if is_there else "no")


def _same(things: tuple[Thing, ...], rng: np.random.Generator) -> Iterator[Question]:
    unique = _unique_kinds(things)
    word = _colour_word(rng)
    for index, first in enumerate(unique):
        for second in unique[index + 1 :]:
            text = f"Are the {first.kind} and the {second.kind} the same {word}?"
            yield Question("same", text, "yes" if first.colour == second.colour else "no")
            if DIGIT not in (first.kind, second.kind):
                text = f"Are the {first.kind} and the {second.kind} the same size?"
                yield Question("same", text, "yes" if first.size == second.size else "no")
    if len(things) == 2:
        same = things[0].kind == things[1].kind
        yield Question("same", "Are the two things the same shape?", "yes" if same else "no")


_MAKERS: tuple[Callable[[tuple[Thing, ...], np.random.Generator], Iterator[Question]], ...] = (
    _describe, _colour, _shape, _size, _count, _where, _digit, _exists, _same,
)  # fmt: skip
