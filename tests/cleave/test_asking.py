"""What a person sees while the head is fetched."""

from __future__ import annotations

import io

from rich.console import Console

from cleave.asking import _fetch_bar


def shown(*reports: tuple[str, int, int], is_terminal: bool = True) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=120, no_color=True)
    with _fetch_bar(console) as report:
        for row in reports:
            report(*row)
    return text.getvalue()


def test_bar_shows_all_files_of_the_head_as_one_with_bytes_rate_and_time_left():
    text = shown(
        ("manifest.json", 900, 900), ("a.onnx", 1_000_000, 4_000_000), ("b.onnx", 3_000_000, 4_000_000)
    )
    assert "fetching the head" in text
    assert "3.0/4.0 MB" in text
    assert "B/s" in text
    assert "0:00:0" in text


def test_nothing_is_shown_where_nothing_is_fetched_or_nobody_looks():
    assert "fetching" not in shown()
    assert shown(("a.onnx", 1, 2), is_terminal=False) == ""
