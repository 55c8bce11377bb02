"""Whose a request is: what tenants share is the machine, and nothing of what they sent or got."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """The most that a tenant may use of one cloud node; 0: no limit of its own."""

    streams: int = 0  # open at once
    requests_per_s: float = 0.0
    bytes_per_s: float = 0.0  # of payloads that it sends
    tokens_per_s: float = 0.0  # of answers, repeated ones included
    index_items: int = 0  # kept in its indexes, together


UNLIMITED = TenantLimits()


@dataclass(frozen=True, slots=True)
class Tenant:
    """`name` is in every key of what is kept, and is who it is; the rest may change while its requests run.

    `share` is its weight where tenants wait for the same queue.
    """

    name: str
    share: float = field(default=1.0, compare=False)
    limits: TenantLimits = field(default=UNLIMITED, compare=False)
    # Of an operator: the metrics tell of everybody's traffic.
    sees_metrics: bool = field(default=False, compare=False)


# Of a cloud that asks nobody who they are.
ANYBODY = Tenant("", sees_metrics=True)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a stream. An edge that names itself may go on with its requests on another one."""

    tenant: Tenant = ANYBODY
    edge_id: str = ""
