"""Text as it comes equals the text of all tokens at once, and no delta ends within a character."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cloud_node.model.detokenise import Detokeniser

_SPECIAL = 256


class Bytes:
    """One token per byte, and one that is skipped."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(token for token in token_ids if token != _SPECIAL).decode(errors="replace")


class Words:
    """Like SentencePiece: each token brings its space before it, and a text does not begin with one."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(f" w{token}" for token in token_ids if token != _SPECIAL).removeprefix(" ")


def pushed(tokenizer: Bytes | Words, token_ids: Sequence[int]) -> list[str | None]:
    detokeniser = Detokeniser(tokenizer)
    return [*(detokeniser.push(token_id) for token_id in token_ids), detokeniser.flush()]


def test_character_of_several_tokens_comes_with_its_last() -> None:
    assert pushed(Bytes(), "aé🙂".encode()) == ["a", None, "é", None, None, None, "🙂", ""]


def test_character_that_stays_incomplete_comes_with_the_flush() -> None:
    assert pushed(Bytes(), [97, 0xE2, 0x82]) == ["a", None, None, "�"]


def test_broken_character_comes_once_a_whole_one_follows() -> None:
    assert pushed(Bytes(), [0xE2, 0x82, 97]) == [None, None, "�a", ""]


def test_special_tokens_have_no_text() -> None:
    assert pushed(Bytes(), [_SPECIAL, 97, _SPECIAL]) == ["", "a", "", ""]


def test_first_word_has_no_space_and_the_others_have() -> None:
    assert pushed(Words(), [1, 2, 3]) == ["w1", " w2", " w3", ""]


@given(st.lists(st.integers(0, _SPECIAL), max_size=40))
def test_deltas_of_any_bytes_add_up_to_the_text_of_all(token_ids: list[int]) -> None:
    whole = Bytes().decode(token_ids, skip_special_tokens=True)
    assert "".join(text or "" for text in pushed(Bytes(), token_ids)) == whole


@given(st.text(max_size=20))
def test_deltas_of_a_text_are_whole_characters(text: str) -> None:
    deltas = pushed(Bytes(), text.encode())
    assert "".join(delta or "" for delta in deltas) == text
    assert all("�" not in (delta or "") for delta in deltas) or "�" in text


@given(st.lists(st.integers(0, _SPECIAL), max_size=40))
def test_deltas_of_any_words_add_up_to_the_text_of_all(token_ids: list[int]) -> None:
    whole = Words().decode(token_ids, skip_special_tokens=True)
    assert "".join(text or "" for text in pushed(Words(), token_ids)) == whole
