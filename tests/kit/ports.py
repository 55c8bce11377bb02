"""Ports for processes that cannot tell which one they took."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Of loopback, free a moment ago: whoever listens on it must do so soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
