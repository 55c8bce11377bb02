"""A payload on its way up: its pieces, when to acknowledge them, and how long to wait for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloud_node.request import Request
from wire.chunks import Assembler
from wire.errors import CleaveError, DeadlineExceeded
from wire.limits import Limits

_ACK_EVERY_CHUNKS = 4


class Upload:
    """Of one request's one input; `give_up` gets the error when no chunk comes for `upload_idle_s`."""

    def __init__(self, request: Request, limits: Limits, give_up: Callable[[CleaveError], None]) -> None:
        self._assembler = Assembler(request.payload_bytes, limits.max_request_bytes)
        self._crc32 = request.crc32
        self._idle_s = limits.upload_idle_s
        self._give_up = give_up
        self._idle: asyncio.TimerHandle | None = None
        self._num_unacknowledged = 0

    @property
    def received_bytes(self) -> int:
        return self._assembler.received_bytes

    @property
    def is_complete(self) -> bool:
        return self._assembler.is_complete

    def add(self, offset: int, data: bytes, crc: int) -> None:
        """Takes the next piece; raises what `Assembler.add` raises."""
        self._assembler.add(offset, data, crc)
        self._num_unacknowledged += 1

    def take_acknowledgement(self) -> bool:
        """Whether it is time to say how much has come; the count begins anew then."""
        is_time = self.is_complete or self._num_unacknowledged >= _ACK_EVERY_CHUNKS
        if is_time:
            self._num_unacknowledged = 0
        return is_time

    def payload(self) -> memoryview:
        """All of it, read-only; raises Corrupt where it is not what was announced."""
        return self._assembler.payload(self._crc32)

    def expect(self) -> None:
        """From now on the next piece has `upload_idle_s`."""
        self.close()
        error = DeadlineExceeded(
            f"no chunk came for {self._idle_s:g} s, so the upload was given up; ask again"
        )
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._give_up, error)

    def close(self) -> None:
        """Waits for nothing more."""
        if self._idle is not None:
            self._idle.cancel()
