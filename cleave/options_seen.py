"""The options of how a process is seen from outside: types that say their own help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

_PANEL = "Seen from outside"

LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", help="Of the lines on standard error.", rich_help_panel=_PANEL),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    typer.Option(
        "--log-level", help="The least that is logged; never a user's data.", rich_help_panel=_PANEL
    ),
]
Otlp = Annotated[
    str | None,
    typer.Option(
        "--otlp",
        envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
        help="Where to send traces, such as http://127.0.0.1:4317 (OTLP over gRPC); off without.",
        rich_help_panel=_PANEL,
    ),
]
