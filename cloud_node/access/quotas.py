"""What each tenant has used of its limits. Pure: the time is an argument, monotonic, in seconds.

Rates are token buckets: they fill at the tenant's rate up to one second's worth. Of what cannot be told beforehand, the
bytes of an upload and the tokens of an answer, a bucket may owe; whoever owes waits (uploads) or is refused (requests).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cloud_node.asked.tenants import UNLIMITED, Tenant, TenantLimits
from wire.errors import LimitReached

BURST_S = 1.0
# An upload is held back no longer than this between two messages: what else is on the stream waits as long. What a
# tenant owes beyond it, its next requests hear of.
MAX_PAUSE_S = 5.0
# A stream ends when its edge likes; edges that were cut off are noticed within 30 s.
STREAM_RETRY_S = 10.0
# Tenants come from the operator's file or from certificates: more than this at once are not told apart in the counts.
MAX_TENANTS = 10_000
_ROUNDING = 1e-9


class Bucket:
    """Holds what may be used by now; negative: what is owed."""

    def __init__(self, rate: float, least: float, now_s: float) -> None:
        """`least` fits whatever the rate: one whole request of a slow one."""
        self._rate = rate
        self._burst = max(least, rate * BURST_S)
        self.level = self._burst
        self._filled_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until that much is there, or the bucket is full; 0 for now."""
        self._fill(now_s)
        missing = min(amount, self._burst) - self.level
        return missing / self._rate if missing > _ROUNDING * self._burst else 0.0

    def take(self, amount: float, now_s: float) -> None:
        self._fill(now_s)
        self.level -= amount

    def changed(self, rate: float, least: float, now_s: float) -> Bucket:
        """The same at another rate: what is there stays, as far as it fits, and what is owed."""
        self._fill(now_s)
        new = Bucket(rate, least, now_s)
        new.level = min(self.level, new.level)
        return new

    def _fill(self, now_s: float) -> None:
        # A clock that went backwards fills nothing, and empties nothing.
        passed_s = max(0.0, now_s - self._filled_s)
        self._filled_s = max(self._filled_s, now_s)
        self.level = min(self._burst, self.level + passed_s * self._rate)


@dataclass(slots=True)
class _Usage:
    """One tenant's. A bucket is there where the tenant has such a limit."""

    limits: TenantLimits
    requests: Bucket | None
    received: Bucket | None
    tokens: Bucket | None
    num_streams: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def obey(self, limits: TenantLimits, now_s: float) -> None:
        """What is limited for the first time begins with a full bucket."""
        self.limits = limits
        self.requests = _bucket(self.requests, limits.requests_per_s, now_s)
        self.received = _bucket(self.received, limits.bytes_per_s, now_s)
        self.tokens = _bucket(self.tokens, limits.tokens_per_s, now_s)


class Quotas:
    """Every tenant's usage of this cloud node. A LimitReached says which limit, and when to come back.

    Limits are those of the Tenant that was last seen, at a stream or a request. What is used later goes by its name:
    a request that runs knows its tenant as it was.
    """

    def __init__(self, max_tenants: int = MAX_TENANTS) -> None:
        self._max_tenants = max_tenants
        self._usage: dict[str, _Usage] = {}

    @contextmanager
    def stream(self, tenant: Tenant, now_s: float) -> Iterator[None]:
        """One stream of the tenant's, while it lasts; raises LimitReached where there are too many."""
        usage = self._obeying(tenant, now_s)
        most = tenant.limits.streams
        if most and usage.num_streams >= most:
            usage.refused["streams"] += 1
            raise LimitReached(
                f"tenant {tenant.name} has {usage.num_streams} streams open, and its limit is {most}; close one, or "
                "share one between requests",
                retry_after_s=STREAM_RETRY_S,
            )
        usage.num_streams += 1
        try:
            yield
        finally:
            usage.num_streams -= 1

    def admit(self, tenant: Tenant, now_s: float) -> None:
        """Counts a request, unless a limit speaks against it; of several, the one that takes longest is told."""
        usage = self._obeying(tenant, now_s)
        wait_s, limit = max(_waits(usage, now_s), default=(0.0, ""))
        if wait_s > 0:
            usage.refused[limit] += 1
            most, unit = getattr(usage.limits, limit), limit.removesuffix("_per_s")
            raise LimitReached(
                f"tenant {tenant.name} has reached its limit of {most:,g} {unit}/s; come back in {wait_s:.2g} s",
                retry_after_s=wait_s,
            )
        usage.counts["requests"] += 1
        if usage.requests is not None:
            usage.requests.take(1, now_s)

    def received(self, name: str, num_bytes: int, now_s: float) -> float:
        """Bytes of payloads came: how many seconds to wait before more are read."""
        usage = self._of(name)
        usage.counts["bytes"] += num_bytes
        if usage.received is None:
            return 0.0
        usage.received.take(num_bytes, now_s)
        return min(MAX_PAUSE_S, usage.received.wait_s(0, now_s))

    def told(self, name: str, num_tokens: int, now_s: float) -> None:
        """Tokens of an answer went out."""
        usage = self._of(name)
        usage.counts["tokens"] += num_tokens
        if usage.tokens is not None:
            usage.tokens.take(num_tokens, now_s)

    def counted(self, what: str) -> dict[tuple[str, ...], float]:
        """By tenant: "requests", "bytes" or "tokens". Any thread may ask."""
        return {(name,): float(usage.counts[what]) for name, usage in self._usage.copy().items()}

    def refused(self) -> dict[tuple[str, ...], float]:
        """By tenant and limit. Any thread may ask."""
        every = self._usage.copy().items()
        return {(name, limit): float(n) for name, usage in every for limit, n in usage.refused.copy().items()}

    def streams(self) -> dict[tuple[str, ...], float]:
        """Open ones, by tenant. Any thread may ask."""
        return {(name,): float(usage.num_streams) for name, usage in self._usage.copy().items()}

    def _obeying(self, tenant: Tenant, now_s: float) -> _Usage:
        usage = self._of(tenant.name)
        if usage.limits is not tenant.limits and usage.limits != tenant.limits:
            usage.obey(tenant.limits, now_s)
        return usage

    def _of(self, name: str) -> _Usage:
        usage = self._usage.get(name)
        if usage is None:
            self._make_room()
            self._usage[name] = usage = _Usage(UNLIMITED, None, None, None)
        return usage

    def _make_room(self) -> None:
        """Forgets a tenant that has no stream; with one stream each, all are in use, and bounded by their number."""
        if len(self._usage) >= self._max_tenants:
            idle = next((name for name, usage in self._usage.items() if not usage.num_streams), None)
            if idle is not None:
                del self._usage[idle]


def _waits(usage: _Usage, now_s: float) -> Iterator[tuple[float, str]]:
    """Seconds until each limit lets a request in, and its name among the tenant's."""
    if usage.requests is not None:
        yield usage.requests.wait_s(1, now_s), "requests_per_s"
    if usage.tokens is not None:
        yield usage.tokens.wait_s(1, now_s), "tokens_per_s"
    if usage.received is not None:
        # Uploads wait by themselves up to the longest pause; only beyond it there is no place for one more.
        owed_s = usage.received.wait_s(0, now_s)
        yield (owed_s - MAX_PAUSE_S if owed_s > MAX_PAUSE_S else 0.0), "bytes_per_s"


def _bucket(before: Bucket | None, rate: float, now_s: float) -> Bucket | None:
    if not rate:
        return None
    return before.changed(rate, 1.0, now_s) if before is not None else Bucket(rate, 1.0, now_s)
