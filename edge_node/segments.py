"""Where speech is cut while it comes: at pauses, and before a piece gets longer than the model hears. Pure.

A piece ends in the middle of a pause; where nobody pauses, at the quietest place of its last half. What is quiet
follows from the sound itself: a twentieth of the way from its floor to its loud parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # [n], one channel

_FRAME_S = 0.02
# The floor and the loud parts are those of so much that came last.
_HISTORY_S = 8.0
_QUIET = 0.05
# Below this nothing is speech, however quiet the rest is: 16-bit sound of one step has 3e-5.
_SILENCE = 2e-4


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of speech: samples `start` to `start + len(samples)` - 1 of all that came."""

    start: int
    samples: Samples


class Segmenter:
    """Takes samples as they come. `longest` is what the model hears at once, in samples."""

    def __init__(self, rate_hz: int, longest: int, pause_s: float = 0.45) -> None:
        self._frame = max(1, round(_FRAME_S * rate_hz))
        self._longest = longest // self._frame * self._frame or longest
        self._pause = max(1, round(pause_s / _FRAME_S))  # frames
        self._history: list[float] = []  # loudness of the last frames
        self._kept: Samples = np.empty(0, np.float32)  # from `_start` on
        self._levels: list[float] = []  # of the frames kept
        self._start = 0

    @property
    def num_samples(self) -> int:
        """All that came."""
        return self._start + len(self._kept)

    def add(self, samples: Samples) -> list[Segment]:
        """The pieces that end with these samples."""
        self._kept = np.concatenate([self._kept, samples])
        ended: list[Segment] = []
        while len(self._kept) >= (len(self._levels) + 1) * self._frame:
            self._note_frame()
            if (cut := self._cut()) is not None and (segment := self._take(cut)) is not None:
                ended.append(segment)
        return ended

    def current(self) -> Segment | None:
        """What has been said of a piece that has not ended; None while nobody speaks."""
        return Segment(self._start, self._kept) if self._has_speech(self._levels) else None

    def end(self) -> Segment | None:
        """The last piece."""
        # Less than a frame is nothing that anybody said.
        last = self.current()
        self._start, self._kept, self._levels = self.num_samples, self._kept[:0], []
        return last

    def _note_frame(self) -> None:
        frame = self._kept[len(self._levels) * self._frame :][: self._frame]
        level = float(np.sqrt(np.mean(np.square(frame, dtype=np.float64))))
        self._levels.append(level)
        self._history.append(level)
        del self._history[: -round(_HISTORY_S / _FRAME_S)]

    @property
    def _threshold(self) -> float:
        floor, loud = np.percentile(self._history, (5, 95))
        return max(_SILENCE, float(floor + _QUIET * (loud - floor)))

    def _has_speech(self, levels: list[float]) -> bool:
        return bool(levels) and max(levels) >= self._threshold

    def _cut(self) -> int | None:
        """In frames from the piece's start, where it ends; None while it goes on."""
        levels, threshold = self._levels, self._threshold
        quiet = 0
        while quiet < len(levels) and levels[-1 - quiet] < threshold:
            quiet += 1
        if quiet == len(levels):
            # Nobody has spoken yet: of a long silence, only as much is kept as a word may begin in.
            return len(levels) - self._pause if quiet > 2 * self._pause else None
        if quiet >= self._pause:
            return len(levels) - quiet // 2
        if (len(levels) + 1) * self._frame > self._longest:
            half = len(levels) // 2
            return half + 1 + int(np.argmin(levels[half:-1])) if len(levels) > 2 else len(levels)
        return None

    def _take(self, frames: int) -> Segment | None:
        """Ends the piece there; None where nobody spoke in it."""
        count = frames * self._frame
        segment = (
            Segment(self._start, self._kept[:count]) if self._has_speech(self._levels[:frames]) else None
        )
        self._kept, self._levels = self._kept[count:], self._levels[frames:]
        self._start += count
        return segment
