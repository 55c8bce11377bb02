"""The text of one answer as it grows: whole characters, and nothing of a stop string."""

from __future__ import annotations

from cloud_node.asked.sequence import TextDelta
from cloud_node.model.detokenise import Detokeniser


class AnswerText:
    """Tokens in, deltas out. What may yet become a stop string is held back until it cannot."""

    def __init__(self, detokeniser: Detokeniser, stop: tuple[str, ...] = ()) -> None:
        self._detokeniser = detokeniser
        self._stop = stop
        self._held = ""
        self._num_tokens = 0
        self._num_told = 0
        self.is_stopped = False

    def push(self, token_id: int) -> TextDelta | None:
        """The delta that this token completes; None while it completes none. `is_stopped` once a stop string came."""
        self._num_tokens += 1
        text = self._detokeniser.push(token_id)
        if text is None:
            return None
        if self._stop:
            text, self._held, self.is_stopped = release(self._held + text, self._stop)
            if self._held and not text:
                return None
        return self._delta(text)

    def end(self) -> TextDelta | None:
        """What was still held back, once no token follows; None where every token has been told."""
        rest = ""
        if not self.is_stopped:
            rest, _, self.is_stopped = release(
                self._held + self._detokeniser.flush(), self._stop, is_last=True
            )
        return self._delta(rest) if self._num_told < self._num_tokens or rest else None

    def _delta(self, text: str) -> TextDelta:
        delta = TextDelta(text, self._num_told, self._num_tokens - self._num_told)
        self._num_told = self._num_tokens
        return delta


def release(text: str, stop: tuple[str, ...], *, is_last: bool = False) -> tuple[str, str, bool]:
    """Splits text into what may be told and what is held back; True where a stop string came, which ends the text."""
    found = min((at for at in map(text.find, stop) if at >= 0), default=-1)
    if found >= 0:
        return text[:found], "", True
    held = 0 if is_last else max((_overlap(text, one) for one in stop), default=0)
    return text[: len(text) - held], text[len(text) - held :], False


def _overlap(text: str, stop: str) -> int:
    """How many characters at the text's end could begin the stop string."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
