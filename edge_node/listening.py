"""Listening: features go up while the person still speaks, and the text comes back as it is heard, revised, then final.

Speech is cut into pieces at its pauses. Of the piece that is being said, everything so far is asked about again and
again, as often as answers come; once it has ended it is asked about a last time, and its text stays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from edge_node.segments import Samples, Segmenter

Ask = Callable[[Samples], Awaitable[str]]  # one piece to its text


@dataclass(frozen=True, slots=True)
class Heard:
    """All text so far. What has been said of a piece that goes on may be revised; after `is_final` nothing comes."""

    text: str
    is_final: bool
    seconds: float  # of sound that had come


async def listen(
    ask: Ask,
    sound: AsyncIterable[NDArray[np.float32]],
    segmenter: Segmenter,
    *,
    from_hz: int,
    to_hz: int,
    every_s: float = 0.5,
) -> AsyncGenerator[Heard, None]:
    """What is heard of one channel at `from_hz`, which comes in pieces of any length; the model's rate is `to_hz`.

    At least `every_s` of new sound come between two questions about one piece. Raises what `ask` raises.
    """
    listener = _Listener(ask, segmenter, to_hz, every_s)
    resampling = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")
    feeding = asyncio.create_task(_feed(listener, sound, resampling))
    try:
        while not listener.is_over:
            await listener.changed()
            if feeding.done():
                feeding.result()
            listener.raise_failure()
            if (heard := listener.heard()) is not None:
                yield heard
    finally:
        feeding.cancel()
        await listener.close()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(
    listener: _Listener, sound: AsyncIterable[NDArray[np.float32]], resampling: soxr.ResampleStream
) -> None:
    try:
        async for samples in sound:
            listener.take(resampling.resample_chunk(np.asarray(samples, np.float32)))
        listener.take(resampling.resample_chunk(np.empty(0, np.float32), last=True))
    finally:
        listener.end()


class _Listener:
    """Which questions are under way, and what is known by now."""

    def __init__(self, ask: Ask, segmenter: Segmenter, rate_hz: int, every_s: float) -> None:
        self._ask = ask
        self._segmenter = segmenter
        self._rate_hz = rate_hz
        self._every = every_s * rate_hz
        self._said: list[asyncio.Task[str]] = []  # of the pieces that have ended, in their order
        self._saying: asyncio.Task[str] | None = None  # of the one that goes on
        self._saying_of = 0  # how many pieces had ended when it was asked about
        self._asked_at = 0  # samples that had come then
        self._partial, self._partial_of = "", -1
        self._told = ""
        self._told_final = False
        self._has_ended = False
        self._change = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self._told_final

    def take(self, samples: Samples) -> None:
        """Sound that came."""
        for segment in self._segmenter.add(samples):
            self._finish(segment.samples)
        current = self._segmenter.current()
        is_time = self._segmenter.num_samples - self._asked_at >= self._every
        if current is not None and is_time and self._saying is None:
            self._asked_at, self._saying_of = self._segmenter.num_samples, len(self._said)
            self._saying = self._start(current.samples)

    def end(self) -> None:
        """No more comes."""
        if (last := self._segmenter.end()) is not None:
            self._finish(last.samples)
        self._has_ended = True
        self._change.set()

    def heard(self) -> Heard | None:
        """What is known, if it is more or other than was told."""
        self._note_partial()
        done = 0
        while done < len(self._said) and self._said[done].done():
            done += 1
        texts = [task.result().strip() for task in self._said[:done]]
        is_final = self._has_ended and done == len(self._said)
        # A piece that has ended and has no text yet shows what was heard of it while it was said.
        if not is_final and self._partial_of == done:
            texts.append(self._partial)
        text = " ".join(text for text in texts if text)
        if text == self._told and not is_final:
            return None
        self._told, self._told_final = text, is_final
        return Heard(text, is_final, self._segmenter.num_samples / self._rate_hz)

    async def changed(self) -> None:
        await self._change.wait()
        self._change.clear()

    def raise_failure(self) -> None:
        """Raises what the first question failed with that did."""
        for task in (*self._said, *([self._saying] if self._saying is not None else [])):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def close(self) -> None:
        tasks = [*self._said, *([self._saying] if self._saying is not None else [])]
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    def _finish(self, samples: Samples) -> None:
        """A piece has ended: what is being asked about it is no longer waited for."""
        self._note_partial()
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        self._said.append(self._start(samples))

    def _start(self, samples: Samples) -> asyncio.Task[str]:
        task = asyncio.ensure_future(self._ask(samples))
        task.add_done_callback(lambda _: self._change.set())
        return task

    def _note_partial(self) -> None:
        if self._saying is not None and self._saying.done():
            self._partial, self._partial_of = self._saying.result().strip(), self._saying_of
            self._saying = None
