"""The public Python API. Names load on first use: a device never imports what only the cloud needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_node.blocking import EdgeNode
    from edge_node.credentials import Credentials
    from edge_node.node import AsyncEdgeNode
    from edge_node.trust import BundleTrust
    from wire.errors import CleaveError

__all__ = ["AsyncEdgeNode", "BundleTrust", "CleaveError", "Credentials", "EdgeNode"]

_HOMES = {
    "AsyncEdgeNode": "edge_node.node",
    "BundleTrust": "edge_node.trust",
    "CleaveError": "wire.errors",
    "Credentials": "edge_node.credentials",
    "EdgeNode": "edge_node.blocking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cleave' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
