"""Calls beside the stream, made again within the edge's patience: where a cloud is busy, or a file breaks off."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from edge_node.patience import Patience, Tries
from wire.errors import Cancelled, CleaveError, Internal
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)

T = TypeVar("T")
# The offset to begin at, and the seconds that the first part may take (None: as many as any) -> parts.
Parts = Callable[[int, float | None], AsyncGenerator[pb.BundlePart, None]]

# A link that breaks off one file so often will not bring it; what came is kept for the next time.
MOST_BREAKS = 100


class Waits:
    """Of one call that is made again. `what` is made, as a person is told."""

    def __init__(self, what: str, patience: Patience) -> None:
        # Such a call is refused for a second, as others fetch at once; a request would be for as long as it takes.
        self._tries = Tries(replace(patience, waits_when_busy=True), None)
        self._what = what
        self._has_waited = False  # since there was progress
        self._num_breaks = 0  # that were followed by progress

    @property
    def left_s(self) -> float | None:
        """How long the next try may take to bring something; None: as long as any."""
        return self._tries.left_s(time.monotonic())

    def note_progress(self) -> None:
        if not self._has_waited:
            return
        self._has_waited = False
        self._num_breaks += 1
        if self._num_breaks < MOST_BREAKS:
            self._tries.note_progress()

    async def wait(self, error: CleaveError) -> None:
        """Until the next try; raises `error` where there is none."""
        # A proxy ends calls with statuses of its own, which a cloud itself has for a bug.
        is_lost = isinstance(error, Internal | Cancelled)
        wait_s = self._tries.wait_s(error, time.monotonic(), random.random(), is_lost=is_lost)
        if not self._has_waited:
            _log.warning("%s goes on in %.2g s: %s", self._what, wait_s, error)
        self._has_waited = True
        await asyncio.sleep(wait_s)


async def called(call: Callable[[], Awaitable[T]], waits: Waits) -> T:
    """What the call gives. A cloud that says when it is to be asked again is asked then; all else is raised."""
    while True:
        try:
            return await call()
        except CleaveError as error:
            if error.retry_after_s is None:
                raise
            await waits.wait(error)


async def fetched(
    parts_from: Parts, offset: int, waits: Waits, may_wait: Callable[[CleaveError], bool]
) -> AsyncGenerator[pb.BundlePart, None]:
    """The parts of a file from a byte on; where they break off, those of the rest.

    Raises what they end with at last.
    """
    is_begun = False
    while True:
        is_rest = is_begun
        try:
            async with aclosing(parts_from(offset, waits.left_s)) as parts:
                async for part in parts:
                    if is_rest and not part.data:
                        return  # it had broken off at its very end
                    is_begun, is_rest = True, False
                    offset += len(part.data)
                    waits.note_progress()
                    yield part
            return
        except CleaveError as error:
            if not may_wait(error):
                raise
            await waits.wait(error)
