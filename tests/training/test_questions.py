"""Questions: an independent reading of the scene gives exactly one answer to each, and it is the one stated."""

from __future__ import annotations

import re

from training.questions import KINDS, NUMBERS, drill, questions
from training.scenes import DIGIT, FIRST_HELD_OUT_SEED, PLACES, SHAPES, Scene, Thing, scene

_SEEDS = (*range(150), *range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 50))


def _named(things: tuple[Thing, ...], words: str) -> list[Thing]:
    """The things that `red circle`, `digit`, `blue thing` or `thing` may mean."""
    wanted = words.split()
    return [
        thing
        for thing in things
        if all(word in (thing.kind, thing.colour, "thing", "shape") for word in wanted)
    ]


def _at(things: tuple[Thing, ...], place: str) -> list[Thing]:
    return [thing for thing in things if PLACES[thing.place] == place]


def _possible(one: Scene, text: str) -> set[str]:
    """Every answer that some reading of the question allows."""
    things, low = one.things, text.lower().replace("color", "colour").rstrip("?.")
    if found := re.fullmatch(r"what (?:is the )?colour (?:is|of) the (\w+)", low):
        return {thing.colour for thing in _named(things, found[1])}
    if found := re.fullmatch(r"what is (?:in|at|on) the ((?:top|bottom|left|right|center| )+)", low):
        return {thing.kind for thing in _at(things, found[1])}
    if found := re.fullmatch(r"(?:what is the (\w+) thing|which (?:shape|thing) is (\w+))", low):
        return {thing.kind for thing in _named(things, found[1] or found[2])}
    if found := re.fullmatch(r"(?:how big is the (\w+)|is the (\w+) small or large)", low):
        return {thing.size for thing in _named(things, found[1] or found[2])}
    if found := re.fullmatch(r"where is the (.+)", low):
        return {PLACES[thing.place] for thing in _named(things, found[1])}
    if found := re.fullmatch(r"how many (.+?)(?: are there| do you see)", low):
        words = re.sub(r"(?<=cross)es$|s$", "", found[1])
        return {NUMBERS[len(_named(things, words))]}
    if found := re.fullmatch(r"(?:is there|do you see) an? (.+)", low):
        return {"yes" if _named(things, found[1]) else "no"}
    return _possible_of_two(things, low)


def _possible_of_two(things: tuple[Thing, ...], low: str) -> set[str]:
    if low == "are the two things the same shape":
        assert len(things) == 2
        return {"yes" if things[0].kind == things[1].kind else "no"}
    if found := re.fullmatch(r"are the (\w+) and the (\w+) the same (colour|size)", low):
        pairs = [(a, b) for a in _named(things, found[1]) for b in _named(things, found[2])]
        return {"yes" if getattr(a, found[3]) == getattr(b, found[3]) else "no" for a, b in pairs}
    if "digit" in low or "number" in low:
        return {str(thing.digit) for thing in things if thing.kind == DIGIT}
    raise AssertionError(f"no reading of {low!r}")


def _described(things: tuple[Thing, ...], answer: str) -> bool:
    """Whether a description names each thing, with all that is said of it, and no other."""
    parts = re.split(r", | and ", answer.removesuffix("."))
    if len(parts) != len(things):
        return False
    for part, thing in zip(parts, things, strict=True):
        words = part.split()
        said = [thing.colour, f"digit {thing.digit}"] if thing.kind == DIGIT else [thing.size, thing.colour]
        said += [] if thing.kind == DIGIT else [thing.kind]
        if not all(word in part for word in said) or not part.endswith(f"the {PLACES[thing.place]}"):
            return False
        if sum(word in SHAPES for word in words) != (thing.kind != DIGIT):
            return False
    return True


def test_every_question_has_one_answer() -> None:
    asked = 0
    for seed in _SEEDS:
        one = scene(seed)
        for question in {*questions(one, 100), *drill(one, 20)}:
            asked += 1
            if question.kind == "describe":
                assert _described(one.things, question.answer), question
            else:
                assert _possible(one, question.text) == {question.answer}, (seed, question)
    assert asked > 1500


def test_all_kinds_are_asked_and_answers_vary() -> None:
    answers: dict[str, set[str]] = {}
    for seed in range(150):
        for question in questions(scene(seed), 100):
            answers.setdefault(question.kind, set()).add(question.answer)
    assert set(answers) == set(KINDS)
    assert all(len(found) >= 2 for found in answers.values())


def test_questions_are_the_same_for_the_same_scene() -> None:
    assert questions(scene(5), 6) == questions(scene(5), 6)


def test_yes_and_no_are_both_common() -> None:
    for kind in ("exists", "same"):
        found = [q.answer for seed in range(300) for q in questions(scene(seed), 100) if q.kind == kind]
        assert 0.25 < found.count("yes") / len(found) < 0.75, kind


def test_drill_asks_each_wording_once_and_looking_for_things_more_often() -> None:
    kinds: list[str] = []
    for seed in range(60):
        asked = drill(scene(seed), 14)
        assert asked == drill(scene(seed), 14)
        assert len({question.text for question in asked}) == len(asked)
        kinds += [question.kind for question in asked]
    assert set(kinds) == set(KINDS)
    assert kinds.count("count") > kinds.count("colour")
