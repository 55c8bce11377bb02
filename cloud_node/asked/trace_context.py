"""Whose trace a request belongs to: the `traceparent` that its edge may send, as W3C Trace Context writes it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wire.limits import MAX_ID_CHARS

# https://www.w3.org/TR/trace-context/#traceparent-header: a later version may have more behind the flags.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The edge's span, of which the request's span here is a child."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    is_sampled: bool  # the edge keeps its own spans


def parse_traceparent(text: str) -> TraceContext | None:
    """None for what is none: a trace is no reason to refuse a request."""
    found = _TRACEPARENT.fullmatch(text) if len(text) <= MAX_ID_CHARS else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))
