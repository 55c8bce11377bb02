"""Token ids to text as they come: whole characters only, and the same text as decoding all ids at once."""

from __future__ import annotations

from typing import Protocol

# What a decoder gives for bytes that are no whole character (yet).
_REPLACEMENT = "�"
# A window is decoded once per token, and once more when it moves.
_WINDOW_TOKENS = 8


class Tokenizer(Protocol):
    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str: ...


class Detokeniser:
    """Decodes a window that starts before the newest tokens, since a token's text depends on those before it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._token_ids: list[int] = []
        self._window = 0
        self._said = 0
        self._said_text = ""  # of the window's tokens that have been said

    def push(self, token_id: int) -> str | None:
        """The text that this token completes; None while a character is incomplete."""
        self._token_ids.append(token_id)
        return self._advance(is_last=False)

    def flush(self) -> str:
        """What an unfinished character decodes to, once no token follows."""
        return self._advance(is_last=True) or ""

    def _advance(self, *, is_last: bool) -> str | None:
        text = self._decode(self._token_ids[self._window :])
        if text.endswith(_REPLACEMENT) and not is_last:
            return None
        new = text[len(self._said_text) :]
        if new and len(self._token_ids) - self._window > _WINDOW_TOKENS:
            # A window of tokens without text would forget what stood before them, and with it a word's space.
            self._window = self._said
            text = self._decode(self._token_ids[self._window :])
        self._said = len(self._token_ids)
        self._said_text = text
        return new

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)
