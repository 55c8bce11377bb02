"""Rows of the KV cache and who has them: those that decode, then the one whose prompt is read, then free ones.

Pure: it says which rows to copy, and the runner copies them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Move:
    """The content of row `source` goes to row `target`."""

    source: int
    target: int


@dataclass(slots=True)
class Slots(Generic[Key]):
    """Row i belongs to `decoding[i]`, and row len(decoding) to `prefilling`: what runs is always contiguous."""

    num_slots: int
    decoding: list[Key] = field(default_factory=list)
    prefilling: Key | None = None

    @property
    def num_used(self) -> int:
        return len(self.decoding) + (self.prefilling is not None)

    @property
    def num_free(self) -> int:
        return self.num_slots - self.num_used

    def row(self, key: Key) -> int:
        """The row of who has one."""
        return len(self.decoding) if key is self.prefilling else self.decoding.index(key)

    def at(self, row: int) -> Key | None:
        """Who has that row."""
        return self.prefilling if row == len(self.decoding) else self.decoding[row]

    def take(self, key: Key) -> int:
        """Gives the next row to a sequence whose prompt will be read."""
        assert self.prefilling is None
        assert self.num_free > 0
        self.prefilling = key
        return len(self.decoding)

    def start_decoding(self) -> None:
        """The prompt has been read: its row joins those that decode, where it is."""
        assert self.prefilling is not None
        self.decoding.append(self.prefilling)
        self.prefilling = None

    def release(self, key: Key) -> list[Move]:
        """Frees a row; the moves, in order, close the gap."""
        if key is self.prefilling:
            self.prefilling = None
            return []
        gap, last = self.decoding.index(key), len(self.decoding) - 1
        moves = [Move(last, gap)] if gap != last else []
        self.decoding[gap] = self.decoding[last]
        self.decoding.pop()
        if self.prefilling is not None:
            moves.append(Move(last + 1, last))
        return moves
