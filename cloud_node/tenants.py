"""Whose a request is: what tenants share is the machine, and nothing of what they sent or got."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tenant:
    """`name` is in every key of what is kept; `share` is its weight where tenants wait for the same queue."""

    name: str
    share: float = 1.0


# Of a cloud that asks nobody who they are.
ANYBODY = Tenant("")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a stream. An edge that names itself may go on with its requests on another one."""

    tenant: Tenant = ANYBODY
    edge_id: str = ""
