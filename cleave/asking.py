"""`cleave ask`: one question about one picture, streamed as it comes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cleave.terminal import printable
from edge_node.blocking import EdgeNode
from edge_node.bundle_store import MANIFEST
from edge_node.bundle_store import Progress as FetchProgress
from edge_node.report import AnswerReport


def ask_and_print(
    cloud: str, question: str, image: Path, *, timeout_s: float, as_json: bool, **options: Any
) -> None:
    """Prints the answer as it comes, and what it cost to standard error; or one JSON object at its end."""
    with _fetch_bar() as progress, EdgeNode(cloud, progress=progress, connect_timeout_s=timeout_s) as edge:
        # A process that has just started remembers no picture, and the cloud may.
        answer = edge.ask(question, image, hash_first=True, **options)
        for text in answer:
            if not as_json:
                print(printable(text), end="", flush=True)
    if as_json:
        print(json.dumps({**answer.report.to_dict(), "image": str(image), "ok": True}))
        return
    print(flush=True)
    print(summary(answer.report), file=sys.stderr)


def summary(report: AnswerReport) -> str:
    """One line: the arm, the bytes, the times."""
    ms = report.ms
    source = "" if report.cache == "miss" else f"{report.cache} from the cache, "
    return (
        f"split {report.split_point} ({report.split_label}), {report.codec}: {source}"
        f"{report.uploaded_bytes:,} bytes sent (JPEG {report.jpeg_bytes:,}); encode {ms['encode']:.0f} ms, "
        f"first token {ms['first_token']:.0f} ms, total {ms['total']:.0f} ms"
    )


@contextlib.contextmanager
def _fetch_bar(console: Console | None = None) -> Iterator[FetchProgress]:
    """One bar for all files of the head, while they are fetched; nothing where none is, or where nobody looks."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("fetching {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task("the head", visible=False, total=None)

        def report(path: str, done: int, total: int) -> None:
            # A new total starts the rate anew; what is done at its first word was done before, and is not in the rate.
            what = "the manifest" if path == MANIFEST else "the head"
            bars.update(task, description=what, completed=done, total=total, visible=True)

        yield report
