"""The tracer of the device's commands: one that sends where `--otlp` says, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edge_node.tracing import UNTRACED, Tracer


@contextlib.contextmanager
def edge_tracer(otlp: str | None) -> Iterator[Tracer]:
    """Sends what is left at the end. Without an address nothing is imported for it."""
    if not otlp:
        yield UNTRACED
        return
    from cleave.otlp import otlp_traces

    with otlp_traces(otlp, "cleave-edge") as traces:
        yield traces
