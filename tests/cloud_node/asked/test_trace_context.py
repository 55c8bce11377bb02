"""What a peer says of its trace: as the standard has it, or ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.asked.trace_context import TraceContext, parse_traceparent

_TRACE, _SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (f"00-{_TRACE}-{_SPAN}-01", True),
        (f"00-{_TRACE}-{_SPAN}-00", False),
        (f"00-{_TRACE}-{_SPAN}-03", True),
        (f"cc-{_TRACE}-{_SPAN}-01", True),
        (f"cc-{_TRACE}-{_SPAN}-01-more", True),
    ],
)
def test_what_the_standard_allows_is_understood(text: str, is_sampled: bool) -> None:
    assert parse_traceparent(text) == TraceContext(_TRACE, _SPAN, is_sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{_TRACE}-{_SPAN}",
        f"00-{_TRACE}-{_SPAN}-1",
        f"00-{_TRACE}-{_SPAN}-01-more",
        f"ff-{_TRACE}-{_SPAN}-01",
        f"00-{_TRACE.upper()}-{_SPAN}-01",
        f"00-{'0' * 32}-{_SPAN}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"00-{_TRACE}-{_SPAN}-01\n",
        f"00-{'٣' * 32}-{_SPAN}-01",
        f"cc-{_TRACE}-{_SPAN}-01-{'x' * 9}",
        f"cc-{_TRACE}-{_SPAN}-01-\n",
    ],
)
def test_anything_else_is_ignored(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    parse_traceparent(text)
