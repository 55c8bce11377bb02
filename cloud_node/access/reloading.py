"""A value that files hold, made anew when they change; what is broken then leaves the value as it was."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from wire.errors import CleaveError

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int], ...]

_log = logging.getLogger(__name__)

# A revoked token is refused, and a new certificate shown, this much later at most.
RELOAD_S = 1.0


class Reloaded(Generic[T]):
    """`value` is always whole: the old one or the new one."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        """Reads at once; raises what `read` raises."""
        self._paths = paths
        self._read = read
        # Taken before reading: what changes in between is read again.
        self._stamp = self._stamps()
        self.value = read()

    def refresh(self) -> bool:
        """Whether there is a new value. Blocking; of a file that is broken, one line is logged, once."""
        stamp = self._stamps()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        names = ", ".join(map(str, self._paths))
        try:
            self.value = self._read()
        except CleaveError as error:
            _log.error("%s changed and cannot be used, so what it held before still holds: %s", names, error)
            return False
        _log.info("%s changed and was read again", names)
        return True

    def _stamps(self) -> _Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def _stamp_of(path: Path) -> tuple[int, int, int]:
    """Of what the path leads to: a mounted secret is a link that is turned to another folder."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


async def keep_fresh(values: Sequence[Reloaded[Any]], every_s: float = RELOAD_S) -> None:
    """Looks again and again, until it is cancelled."""
    while True:
        await asyncio.sleep(every_s)
        for value in values:
            try:
                await asyncio.to_thread(value.refresh)
            except Exception:  # one bad turn must not end all later ones
                _log.exception("looking whether files changed failed")
