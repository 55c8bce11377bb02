"""An independent reading of captions: what a person would take from the words alone."""

from __future__ import annotations

import re

from training.dual.captions import Phrase
from training.scenes import COLOURS, PLACES, SHAPES

_WHOLE = (
    r"a picture of |an image of |the picture shows |this is |the scene has only |nothing but |"
    r"all that is here: |(?:one|two|three|four) things?: "
)
_SOME = r"a picture with |an image with |there is |somewhere |find |show me "
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
_DIGITS = "zero one two three four five six seven eight nine".split()
_SIZES = {"small": "small", "little": "small", "large": "large", "big": "large"}


def read(text: str) -> tuple[list[Phrase], bool]:
    """What is said of each thing, and whether these are said to be all things."""
    lead = re.match(_WHOLE, text)
    is_whole = lead is not None
    rest = re.sub(f"^(?:{_WHOLE}|{_SOME})", "", text).rstrip(".")
    parts = re.split(r", and | and |, ", rest)
    if lead and (number := re.match(r"(\w+) things?: ", lead[0])):
        assert _NUMBERS[number[1]] == len(parts), text
    return [one for part in parts for one in _read_part(part)], is_whole


def _read_part(part: str) -> list[Phrase]:
    words = part.split()
    number = _NUMBERS.get(words[0], 1)
    nouns = [re.sub(r"(?<=cross)es$|s$", "", word) if number > 1 else word for word in words]
    kinds = [word for word in nouns if word in SHAPES]
    kinds += ["digit"] * any(word in ("digit", "number") for word in nouns)
    colours = [word for word in words if word in COLOURS]
    sizes = [_SIZES[word] for word in words if word in _SIZES]
    assert max(len(kinds), len(colours), len(sizes)) <= 1, part
    assert kinds or "thing" in nouns or words[0] == "something" or "something" in words, part
    one = Phrase(
        kinds[0] if kinds else None, colours[0] if colours else None, sizes[0] if sizes else None,
        _place(part), _digit(part),
    )  # fmt: skip
    return [one] * number


def _place(part: str) -> int | None:
    found = re.search(r"(?:in|at|on) the ([a-z]+(?: [a-z]+)?)", part)
    if found is None:
        return None
    words = found[1].replace("upper", "top").replace("lower", "bottom").split()
    if words[0] in ("center", "centre", "middle"):
        return PLACES.index("center")
    place = " ".join(words[:2]) if words[1:] and words[1] in ("left", "right") else words[0]
    return PLACES.index(place)


def _digit(part: str) -> int | None:
    found = re.search(r"(?:digit|number) (\d|[a-z]+)", part)
    if found is None or (found[1] not in _DIGITS and not found[1].isdigit()):
        return None
    return int(found[1]) if found[1].isdigit() else _DIGITS.index(found[1])


def fits(phrases: list[Phrase], is_whole: bool, things: list[Phrase]) -> bool:
    """One phrase after the other is given a thing of its own; slow and plain."""
    if not phrases:
        return not (is_whole and things)
    first, *others = phrases
    return any(
        _is_true(first, thing) and fits(others, is_whole, things[:index] + things[index + 1 :])
        for index, thing in enumerate(things)
    )


def _is_true(said: Phrase, thing: Phrase) -> bool:
    names = ("kind", "colour", "size", "place", "digit")
    return all(getattr(said, name) in (None, getattr(thing, name)) for name in names)
