"""Stop strings in text as it comes: cut wherever the tokens' borders are, and every token told of once."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.asked.sequence import TextDelta
from cloud_node.model.answer_text import AnswerText, release
from cloud_node.model.detokenise import Detokeniser
from tests.kit.checkpoints import _tokenizer


@cache
def tokenizer() -> object:
    return _tokenizer()


class Bytes:
    """One token per byte."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        return bytes(token_ids).decode(errors="replace")


class Pieces:
    """One token per given piece of text."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        return "".join(self.pieces[token] for token in token_ids)


def answer(text: AnswerText, token_ids: list[int]) -> tuple[list[TextDelta], int]:
    """The deltas of a generation that ends at a stop string or after all tokens, and how many it had."""
    deltas, num_tokens = [], 0
    for token_id in token_ids:
        num_tokens += 1
        if (delta := text.push(token_id)) is not None:
            deltas.append(delta)
        if text.is_stopped:
            break
    if (rest := text.end()) is not None:
        deltas.append(rest)
    return deltas, num_tokens


def require_every_token_told_once(deltas: list[TextDelta], num_tokens: int) -> None:
    told = 0
    for delta in deltas:
        assert delta.token_index == told
        told += delta.num_tokens
    assert told == num_tokens
    assert all(delta.num_tokens > 0 or delta.text for delta in deltas)


def said(pieces: list[str], *stop: str) -> tuple[str, int]:
    """The text of an answer and how many tokens it took."""
    text = AnswerText(Detokeniser(Pieces(pieces)), stop)
    deltas, num_tokens = answer(text, list(range(len(pieces))))
    require_every_token_told_once(deltas, num_tokens)
    return "".join(delta.text for delta in deltas), num_tokens


@pytest.mark.parametrize(
    ("pieces", "stop", "text", "num_tokens"),
    [
        (["one ", "END", " two"], ["END"], "one ", 2),
        (["one E", "N", "D two"], ["END"], "one ", 3),  # across borders
        (["one E", "N", " two"], ["END"], "one EN two", 3),  # a part of it, then not
        (["EN", "END"], ["END"], "EN", 2),  # begins again within itself
        (["a", "a", "a", "b", "c"], ["aab"], "a", 4),
        (["xEN"], ["END"], "xEN", 1),  # held back until the end
        (["x", "END"], ["END"], "x", 2),  # at the very end
        (["END"], ["END"], "", 1),
        (["a", "b", "c"], ["abc", "ab"], "", 2),  # one begins the other
        (["a", "b", "x"], ["abc", "b"], "a", 2),  # one ends within the other
        (["xabc"], ["b", "abc"], "x", 1),  # in one token, the earlier
        (["so", "\n", "\n", "no"], ["\n\n"], "so", 3),
        (["é", "ü"], ["ü"], "é", 2),
    ],
)
def test_answer_ends_before_the_stop_string(
    pieces: list[str], stop: list[str], text: str, num_tokens: int
) -> None:
    assert said(pieces, *stop) == (text, num_tokens)


@pytest.mark.parametrize(("stop", "text"), [("é", "a"), ("🙂", "aéb"), ("b🙂", "aé"), ("zz", "aéb🙂c")])
def test_stop_string_of_characters_that_are_several_tokens(stop: str, text: str) -> None:
    deltas, num_tokens = answer(AnswerText(Detokeniser(Bytes()), (stop,)), list("aéb🙂c".encode()))
    require_every_token_told_once(deltas, num_tokens)
    assert "".join(delta.text for delta in deltas) == text


def test_stop_string_that_only_the_last_unfinished_character_completes_is_cut_too() -> None:
    deltas, num_tokens = answer(AnswerText(Detokeniser(Bytes()), ("a�",)), [98, 97, 0xE2])
    require_every_token_told_once(deltas, num_tokens)
    assert "".join(delta.text for delta in deltas) == "b"


def test_what_may_yet_be_a_stop_string_is_held_back_and_nothing_else_is() -> None:
    text = AnswerText(Detokeniser(Pieces(["ab", "E", "N", "x"])), ("END",))
    assert text.push(0) == TextDelta("ab", 0, 1)
    assert text.push(1) is None
    assert text.push(2) is None
    assert text.push(3) == TextDelta("ENx", 1, 3)
    assert text.end() is None


def test_stop_string_ends_an_answer_with_a_delta_of_all_its_tokens() -> None:
    text = AnswerText(Detokeniser(Pieces(["E", "N", "D"])), ("END",))
    assert [text.push(0), text.push(1), text.push(2)] == [None, None, TextDelta("", 0, 3)]
    assert text.is_stopped
    assert text.end() is None


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_what_is_held_back_is_the_longest_end_that_begins_a_stop_string(text: str, stop: list[str]) -> None:
    told, held, is_stopped = release(text, tuple(stop))
    ends = [text[at:] for at in range(len(text)) if any(one.startswith(text[at:]) for one in stop)]
    if any(one in text for one in stop):
        assert is_stopped
        assert (told, held) == (text[: min(text.find(one) for one in stop if one in text)], "")
    else:
        assert not is_stopped
        assert (told, held) == (text[: len(text) - len(held)], max(ends, key=len, default=""))


def cut_at_the_first(token_ids: list[int], stop: list[str]) -> tuple[str, int]:
    """The shortest run of tokens whose text holds a stop string, cut before it; all text where none does."""

    def decode(num_tokens: int) -> str:
        return _decode(token_ids[:num_tokens])

    for num_tokens in range(1, len(token_ids) + 1):
        text = decode(num_tokens)
        is_whole = not text.endswith("�")
        found = [text.find(one) for one in stop if one in text]
        if found and (is_whole or num_tokens == len(token_ids)):
            return text[: min(found)], num_tokens
    return decode(len(token_ids)), len(token_ids)


def _decode(token_ids: list[int]) -> str:
    return tokenizer().decode(token_ids, skip_special_tokens=True)  # type: ignore[attr-defined, no-any-return]


words = st.text("the circl?ésy\n", min_size=1, max_size=3)


@given(st.text("the circle isré?\n🙂", max_size=24), st.lists(words, max_size=3))
def test_text_of_any_answer_is_the_text_of_its_tokens_before_the_first_stop_string(
    text: str, stop: list[str]
) -> None:
    token_ids = tokenizer().encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    expected = cut_at_the_first(token_ids, stop)
    deltas, num_tokens = answer(AnswerText(Detokeniser(tokenizer()), tuple(stop)), token_ids)  # type: ignore[arg-type]
    require_every_token_told_once(deltas, num_tokens)
    assert ("".join(delta.text for delta in deltas), num_tokens) == expected


@given(st.lists(st.integers(0, 319), max_size=24), st.lists(words, max_size=2))
def test_text_of_any_tokens_is_their_text_before_the_first_stop_string(
    token_ids: list[int], stop: list[str]
) -> None:
    """Most of these are no text: characters stay unfinished, special tokens stand between."""
    expected = cut_at_the_first(token_ids, stop)
    deltas, num_tokens = answer(AnswerText(Detokeniser(tokenizer()), tuple(stop)), token_ids)  # type: ignore[arg-type]
    require_every_token_told_once(deltas, num_tokens)
    assert ("".join(delta.text for delta in deltas), num_tokens) == expected
