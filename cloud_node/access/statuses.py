"""The one place where an error ends a call with a status."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from wire.errors import CleaveError, Internal, status_of, to_trailer

_log = logging.getLogger(__name__)


async def abort(context: Any, error: Exception) -> NoReturn:
    """Ends the call; the trailer carries the whole error."""
    if not isinstance(error, CleaveError):
        # gRPC would tell the peer its text, which may hold paths or a user's data.
        _log.error("a call failed", exc_info=error)
        error = Internal(f"unforeseen {type(error).__name__}; the cloud's log says more")
    await context.abort(status_of(error), str(error), to_trailer(error))
    raise AssertionError("abort does not return")
