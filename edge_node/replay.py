"""What an edge has of an answer, and what of a delta it lacks: a resumed answer may begin anew. Pure."""

from __future__ import annotations

from wire.errors import Corrupt, Internal
from wire.v1 import inference_pb2 as pb


class Replay:
    """The text so far, and the place in it where the next delta goes."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self._text = ""
        self._next_token = 0
        self._next_char = 0
        self._may_restart = False

    def resume(self) -> None:
        """The request is opened again: the next delta may be the answer's first."""
        self._next_token, self._next_char = self.num_tokens, len(self._text)
        self._may_restart = True

    def new_of(self, delta: pb.Delta) -> pb.Delta | None:
        """What the edge lacks of a delta, None for nothing.

        Raises Corrupt for one that does not follow the last, and Internal for one that says other than before: whoever
        has read the beginning must not get the end of another answer.
        """
        if self._may_restart and delta.token_index == 0:
            self._next_token = self._next_char = 0
        if delta.token_index != self._next_token:
            raise Corrupt(
                f"the cloud sent token {delta.token_index} where {self._next_token} was to follow; ask again"
            )
        self._may_restart = False
        known = self._text[self._next_char : self._next_char + len(delta.text)]
        if not delta.text.startswith(known):
            raise _different()
        self._next_token += delta.num_tokens
        self._next_char += len(delta.text)
        first, had = max(delta.token_index, self.num_tokens), self.num_tokens
        self.num_tokens = max(had, self._next_token)
        if len(known) == len(delta.text) and self.num_tokens == had:
            return None
        if len(known) == 0 and first == delta.token_index:
            self._text += delta.text
            return delta
        text = delta.text[len(known) :]
        self._text += text
        return pb.Delta(
            request_id=delta.request_id, text=text, token_index=first, num_tokens=self.num_tokens - first
        )

    def end(self, num_tokens: int) -> None:
        """The cloud says that it is done, after so many tokens.

        Raises Corrupt where some of them never came, and Internal where it has said less than before.
        """
        if num_tokens > self._next_token:
            raise Corrupt(f"the answer has {num_tokens} tokens, and {self._next_token} came; ask again")
        # An answer that is resumed at its very end has no delta left.
        if self._next_char != len(self._text) or self._next_token != self.num_tokens:
            raise _different()


def _different() -> Internal:
    return Internal(
        "the resumed answer differs from what had come of it; ask again, and give a seed if the model samples"
    )
