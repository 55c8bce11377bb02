"""`cleave ask`: one question about pictures and sounds, streamed as it comes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
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

from cleave.connecting import Connection
from cleave.terminal import printable
from edge_node.bundle_store import MANIFEST
from edge_node.bundle_store import Progress as FetchProgress
from edge_node.report import AnswerReport, InputReport

# What the media are called that an input would be sent as without a head.
_MEDIA_NAMES = {"jpeg:90": "JPEG", "opus:24": "Opus", "utf-8": "UTF-8"}


def ask_and_print(
    connection: Connection,
    question: str,
    images: Sequence[Path],
    sounds: Sequence[Path],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Prints the answer as it comes, and what it cost to standard error; or one JSON object at its end."""
    with (
        _fetch_bar() as progress,
        connection.edge(progress) as edge,
    ):
        # A process that has just started remembers no input, and the cloud may.
        answer = edge.ask(question, images=images, sounds=sounds, hash_first=True, **options)
        for text in answer:
            if not as_json:
                print(printable(text), end="", flush=True)
    if as_json:
        print(json.dumps(to_dict(answer.report, images, sounds)))
        return
    print(flush=True)
    for source, one in zip([*images, *sounds], answer.report.inputs, strict=True):
        if one.note:
            print(f"{source}: {one.note}", file=sys.stderr)
    print(summary(answer.report), file=sys.stderr)


def to_dict(report: AnswerReport, images: Sequence[Path], sounds: Sequence[Path]) -> dict[str, Any]:
    """The report as plain values, each input with where it came from."""
    values = report.to_dict()
    for source, one in zip([*images, *sounds], values["inputs"], strict=True):
        one["source"] = str(source)
    return {**values, "image": str(images[0]) if images else None, "ok": True}


def summary(report: AnswerReport) -> str:
    """The arm, the bytes, the times: one line, and of several inputs one more for each."""
    ms = report.ms
    source = "" if report.cache == "miss" else f"{report.cache} from the cache, "
    times = (
        f"encode {ms['encode']:.0f} ms, first token {ms['first_token']:.0f} ms, total {ms['total']:.0f} ms"
    )
    if len(report.inputs) == 1:
        return f"{_arm(report.inputs[0])}: {source}{_bytes(report.inputs[0])}; {times}"
    lines = [f"{one.modality}, {_arm(one)}: {_bytes(one)}" for one in report.inputs]
    return "\n".join([*lines, f"{source}{report.uploaded_bytes:,} bytes sent in all; {times}"])


def _arm(one: InputReport) -> str:
    return f"split {one.split_point} ({one.split_label}), {one.codec}"


def _bytes(one: InputReport) -> str:
    name = _MEDIA_NAMES.get(one.media_codec, one.media_codec)
    return f"{one.uploaded_bytes:,} bytes sent ({name} {one.media_bytes:,})"


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
