"""Calls beside the streams, while they last: bundles that are fetched, health that is watched, what is described.

They take a task and maybe an open file each, so that one tenant has so many at once, and all together so many.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from cloud_node.asked.tenants import Tenant
from wire.errors import LimitReached, Overloaded, Unavailable

# A fleet of devices is one tenant, and may fetch its next bundle together.
MAX_CALLS_OF_TENANT = 64
MAX_CALLS = 1024
# Who reads nothing for so long of what streams down is told so, and asks again.
IDLE_S = 60.0
_RETRY_S = 1.0


class OpenCalls:
    """Counts them. Where nobody is asked who they are, only how many there are together."""

    def __init__(self, max_of_tenant: int = MAX_CALLS_OF_TENANT, max_calls: int = MAX_CALLS) -> None:
        self._max_of_tenant = max_of_tenant
        self._max_calls = max_calls
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of.total()

    @contextmanager
    def one(self, tenant: Tenant) -> Iterator[None]:
        """One call of the tenant's; raises LimitReached, or Overloaded, where there are too many."""
        retry_after_s = _RETRY_S * (1 + random.random())
        if tenant.name and self._of[tenant.name] >= self._max_of_tenant:
            raise LimitReached(
                f"tenant {tenant.name} has {self._max_of_tenant} calls open beside its streams, which is its limit; "
                f"come back in {retry_after_s:.2g} s",
                retry_after_s=retry_after_s,
            )
        if len(self) >= self._max_calls:
            raise Overloaded(
                "this cloud has as many calls open beside its streams as it takes; come back in "
                f"{retry_after_s:.2g} s",
                retry_after_s=retry_after_s,
            )
        self._of[tenant.name] += 1
        try:
            yield
        finally:
            self._of[tenant.name] -= 1
            if not self._of[tenant.name]:
                del self._of[tenant.name]


async def write_all(context: Any, parts: AsyncGenerator[Any, None], idle_s: float) -> None:
    """Writes the parts to the call's peer; raises Unavailable where it read nothing for so long, once it reads on.

    What is on its way cannot be taken back, nor overtaken by an error: until the peer reads it, or is gone, the call is
    counted, and holds nothing else.
    """
    async with aclosing(parts):
        async for part in parts:
            writing = asyncio.ensure_future(context.write(part))
            try:
                is_read, _ = await asyncio.wait((writing,), timeout=idle_s)
                if not is_read:
                    await parts.aclose()
                await writing
            finally:
                writing.cancel()
            if not is_read:
                raise Unavailable(
                    f"the call's peer read nothing for {idle_s:g} s, so it is ended; ask again from there"
                )
