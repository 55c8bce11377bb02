"""The payloads of one request on their way up: their pieces, when to acknowledge, and how long to wait for the next.

An edge may send them one after the other or by turns: the wait is for the next piece of any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cloud_node.asked.inputs import RequestInput
from wire.chunks import Assembler
from wire.errors import CleaveError, DeadlineExceeded, Fault
from wire.limits import Limits

_ACK_EVERY_CHUNKS = 4


@dataclass(slots=True)
class _Coming:
    assembler: Assembler
    crc32: int
    num_unacknowledged: int = 0


class Uploads:
    """Of those inputs of one request that the cloud does not hold, by their position.

    `give_up` gets the error when no chunk comes for `upload_idle_s`.
    """

    def __init__(
        self,
        needed: Iterable[tuple[int, RequestInput]],
        limits: Limits,
        give_up: Callable[[CleaveError], None],
    ) -> None:
        most = limits.max_request_bytes
        self._coming = {
            index: _Coming(Assembler(item.total_bytes, most), item.crc32) for index, item in needed
        }
        self._idle_s = limits.upload_idle_s
        self._give_up = give_up
        self._idle: asyncio.TimerHandle | None = None
        self._heard_s = 0.0  # on the loop's clock: when the last piece came

    def __contains__(self, index: int) -> bool:
        return index in self._coming

    @property
    def is_complete(self) -> bool:
        return all(one.assembler.is_complete for one in self._coming.values())

    def incomplete(self) -> list[int]:
        """The inputs of which something is to come."""
        return [index for index, one in self._coming.items() if not one.assembler.is_complete]

    def received_bytes(self, index: int) -> int:
        return self._coming[index].assembler.received_bytes

    def add(self, index: int, offset: int, data: bytes, crc: int) -> None:
        """Takes the next piece; raises what `Assembler.add` raises."""
        one = self._coming[index]
        one.assembler.add(offset, data, crc)
        one.num_unacknowledged += 1

    def take_acknowledgement(self, index: int) -> bool:
        """Whether it is time to say how much of an input has come; the count begins anew then."""
        one = self._coming[index]
        is_time = one.assembler.is_complete or one.num_unacknowledged >= _ACK_EVERY_CHUNKS
        if is_time:
            one.num_unacknowledged = 0
        return is_time

    def payloads(self) -> dict[int, memoryview]:
        """All of them, read-only; raises Corrupt where one is not what was announced."""
        return {index: one.assembler.payload(one.crc32) for index, one in self._coming.items()}

    def expect(self) -> None:
        """From now on the next piece has `upload_idle_s`."""
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        # One timer for all pieces: it looks when the last one came.
        if self._idle is None:
            self._idle = loop.call_at(self._heard_s + self._idle_s, self._look)

    def excuse(self, pause_s: float) -> None:
        """Nothing is read for that long, and it is not the edge's fault."""
        self._heard_s += pause_s

    def close(self) -> None:
        """Waits for nothing more."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _look(self) -> None:
        loop, due_s = asyncio.get_running_loop(), self._heard_s + self._idle_s
        if loop.time() < due_s:
            self._idle = loop.call_at(due_s, self._look)
            return
        self._idle = None
        self._give_up(
            DeadlineExceeded(
                f"no chunk came for {self._idle_s:g} s, so the upload was given up; ask again",
                fault=Fault.NETWORK,
            )
        )
