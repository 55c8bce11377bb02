"""The ten digits as words of the three languages that the speech model writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Language = Literal["en", "fr", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
WORDS: dict[Language, tuple[str, ...]] = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "zh": ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九"),
}


def text_of(digits: Sequence[int], language: Language) -> str:
    """Words with spaces between them, in every language: a word error rate needs words."""
    return " ".join(WORDS[language][digit] for digit in digits)
