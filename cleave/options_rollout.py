"""The options of `cleave cloud` for a staged rollout of a model's next bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Rollout of a new bundle"

Rollout = Annotated[
    str | None,
    typer.Option(
        "--rollout",
        metavar="SHARE",
        help="Where two bundles have one --name, all are served, and this share of the edges is told of the second "
        "one, such as 10%; 0% takes it back.",
        rich_help_panel=_PANEL,
    ),
]
RolloutFile = Annotated[
    Path | None,
    typer.Option(
        "--rollout-file",
        help="A file with that share, or with lines of a name and its share: read again whenever it changes.",
        rich_help_panel=_PANEL,
    ),
]
