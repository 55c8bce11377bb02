"""When a request is sent again, and after how long: after a lost connection, or where the cloud says when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from wire.errors import (
    BadInput,
    CleaveError,
    DeadlineExceeded,
    Denied,
    Fault,
    IncompatibleBundle,
    LimitReached,
    Overloaded,
    Unavailable,
)

RECONNECT_S = 60.0
# The first wait, doubled with every try up to the last. A device asks a person to wait: two seconds are many.
_FIRST_WAIT_S, _MOST_WAIT_S = 0.1, 2.0
# A stream that ends in an odd way (a proxy's status, a message that was damaged) is tried anew so often; a request
# that itself ends every stream must not go on for a minute.
_MOST_ODD = 3


@dataclass(frozen=True, slots=True)
class Patience:
    """`reconnect_s`: how long without progress a lost connection is tried again; 0: not at all.

    `waits_when_busy`: whether Overloaded and LimitReached are waited out, too, where they say how long.
    """

    reconnect_s: float = RECONNECT_S
    waits_when_busy: bool = False

    def __post_init__(self) -> None:
        if not self.reconnect_s >= 0:
            raise BadInput(f"reconnect_s is {self.reconnect_s:g}, and it must be 0 or more")


PATIENT, IMPATIENT = Patience(), Patience(0.0)


class Tries:
    """Of one request. Times are seconds on one monotonic clock; `ends_s` is the request's deadline, if it has one."""

    def __init__(self, patience: Patience, ends_s: float | None) -> None:
        self._patience = patience
        self._lost_s = 0.0  # when the first of the tries failed that are counted
        self._ends_s = ends_s
        self._num_failed = 0
        self._num_odd = 0

    def note_progress(self) -> None:
        """Bytes were acknowledged, or tokens came, that had not been before: the count begins anew."""
        self._num_failed = self._num_odd = 0

    def wait_s(self, error: CleaveError, now_s: float, draw: float, *, is_lost: bool) -> float:
        """How long to wait before the next try; raises `error`, or DeadlineExceeded, where there is none.

        `draw` is a random number of 0 to 1: devices that lost the same cloud must not come back all at once.
        `is_lost` tells that the stream ended with this error, not the request.
        """
        if not self._may_retry(error, is_lost):
            raise error
        wait_s = min(_FIRST_WAIT_S * 2.0**self._num_failed, _MOST_WAIT_S) * (1 + draw) / 2
        if error.retry_after_s is not None:
            # Never sooner than by itself: a cloud that says 0 again and again is not asked in a loop.
            wait_s = max(wait_s, error.retry_after_s * (1 + draw / 4))
        if not self._num_failed:
            self._lost_s = now_s
        self._num_failed += 1
        if self._ends_s is not None and now_s + wait_s >= self._ends_s:
            raise DeadlineExceeded(f"there was no time left to try again after this: {error}") from error
        if now_s + wait_s > self._lost_s + self._patience.reconnect_s:
            raise error
        return wait_s

    def left_s(self, now_s: float) -> float | None:
        """How long this try may take to connect; None for as long as that takes anywhere."""
        bounds = [] if self._ends_s is None else [self._ends_s]
        if self._num_failed:
            bounds.append(self._lost_s + self._patience.reconnect_s)
        return max(0.0, min(bounds) - now_s) if bounds else None

    def _may_retry(self, error: CleaveError, is_lost: bool) -> bool:
        if isinstance(error, Unavailable):
            return True
        if isinstance(error, Overloaded | LimitReached) and not is_lost:
            return self._patience.waits_when_busy and error.retry_after_s is not None
        if error.fault is Fault.NETWORK or (is_lost and not isinstance(error, Denied | IncompatibleBundle)):
            self._num_odd += 1
            return self._num_odd <= _MOST_ODD
        return False
