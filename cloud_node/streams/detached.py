"""Requests whose edges are away: how long each is kept, and how many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from cloud_node.streams.opened import OpenRequest, RequestKey


class Detached:
    """At most `most`, each for `keep_s`; `drop` gets those whose time is over, or whose place another takes.

    The place of the oldest is taken, of the tenant that has the most: nobody's requests push out another's.
    """

    def __init__(self, most: int, keep_s: float, drop: Callable[[OpenRequest], None]) -> None:
        self._most = most
        self._keep_s = keep_s
        self._drop = drop
        self._kept: dict[RequestKey, tuple[OpenRequest, asyncio.TimerHandle]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, opened: OpenRequest) -> None:
        """From now on, until it is taken back."""
        if len(self._kept) >= self._most:
            self._let_go(oldest_of_most(list(self._kept)))
        timer = asyncio.get_running_loop().call_later(self._keep_s, self._let_go, opened.key)
        self._kept[opened.key] = (opened, timer)

    def take_back(self, opened: OpenRequest) -> None:
        """Its edge is here again, or it is gone; one that is not kept is left alone."""
        kept = self._kept.pop(opened.key, None)
        if kept is not None:
            kept[1].cancel()

    def clear(self) -> None:
        """Drops all."""
        for key in list(self._kept):
            self._let_go(key)

    def _let_go(self, key: RequestKey) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept[1].cancel()
            self._drop(kept[0])


def oldest_of_most(keys: list[RequestKey]) -> RequestKey:
    """Of keys in order of age: the oldest one's of the tenant that has the most."""
    counts = Counter(key.tenant for key in keys)
    return max(keys, key=lambda key: counts[key.tenant])
