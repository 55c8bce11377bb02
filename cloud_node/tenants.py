"""Whose a request is: what tenants share is the machine, and nothing of what they sent or got."""

from __future__ import annotations

from dataclasses import dataclass


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
    """`name` is in every key of what is kept; `share` is its weight where tenants wait for the same queue."""

    name: str
    share: float = 1.0
    limits: TenantLimits = UNLIMITED
    sees_metrics: bool = False  # an operator: the metrics tell of everybody's traffic


# Of a cloud that asks nobody who they are.
ANYBODY = Tenant("", sees_metrics=True)
