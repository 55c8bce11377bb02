"""The memory that requests hold before they are computed: one budget for all streams of the process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable

from wire.errors import Overloaded
from wire.limits import MIB

# As a default: 15 of the largest requests at once, 8 of them of one edge.
MAX_HELD_BYTES = 1024 * MIB
# Of what is left, a tenant may hold so many times as much: one alone can use most of the budget.
_TENANT_PART = 16
# A short while: payloads are held from their Open until they have been through the tail.
_RETRY_S = 1.0


class Hold:
    """Bytes that a request has of the budget until it gives them back; giving them back twice changes nothing."""

    __slots__ = ("_budget", "_holder", "_num_bytes", "_tenant")

    def __init__(self, budget: HeldBytes, tenant: str, holder: Hashable, num_bytes: int) -> None:
        self._budget: HeldBytes | None = budget
        self._tenant = tenant
        self._holder = holder
        self._num_bytes = num_bytes

    def give_back(self) -> None:
        """Any thread may."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(self._tenant, self._holder, self._num_bytes)


class HeldBytes:
    """Declared bytes are counted, from the Open on: what was let in can always be finished.

    Nobody may have more than is still free (dynamic thresholds: Choudhury and Hahne, 1998): one that holds alone gets
    at most half of the budget, n that want all they can get 1 / (n + 1) of it each, and a newcomer finds some left. A
    tenant, whose edges may be as many as it says, may have sixteen times what is still free.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: Counter[Hashable] = Counter()
        self._of_tenants: Counter[str] = Counter()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """Held at the moment."""
        return self._num_bytes

    def take(self, holder: Hashable, num_bytes: int, spread: float, tenant: str = "") -> Hold:
        """Raises Overloaded where holder or tenant would have more than its part; `spread`: 0 to 1, by chance."""
        with self._lock:
            left = self.max_bytes - self._num_bytes - num_bytes
            is_too_much = self._of_tenants[tenant] + num_bytes > _TENANT_PART * left
            if is_too_much or self._held[holder] + num_bytes > left:
                # How much others hold is theirs to know.
                raise Overloaded(
                    f"a request of {num_bytes:,} bytes finds too little memory free: of {self.max_bytes:,} bytes for "
                    "all, it has to leave a part to others; ask again later or elsewhere",
                    retry_after_s=_RETRY_S * (0.5 + spread),
                )
            self._held[holder] += num_bytes
            self._of_tenants[tenant] += num_bytes
            self._num_bytes += num_bytes
        return Hold(self, tenant, holder, num_bytes)

    def give_back(self, tenant: str, holder: Hashable, num_bytes: int) -> None:
        """What a Hold calls, once."""
        with self._lock:
            self._num_bytes -= num_bytes
            self._held[holder] -= num_bytes
            if not self._held[holder]:
                del self._held[holder]
            self._of_tenants[tenant] -= num_bytes
            if not self._of_tenants[tenant]:
                del self._of_tenants[tenant]
