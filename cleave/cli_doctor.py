"""`cleave doctor` on the command line: parses, calls, and imports what it needs then."""

from __future__ import annotations

from typing import Annotated

import typer

from cleave.options import AsJson


def doctor(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint directory (config.json is enough), a hub id (only its .json files are fetched), or "
            "'default'."
        ),
    ],
    memory: Annotated[
        str, typer.Option(help="What the device's process may take, such as 512MB or 2GiB.")
    ] = "512MB",
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="A size of pictures, such as 640x480, where the model makes another input of every size; may be given "
            "several times."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether a model can be split, and what each split point costs, before anything is loaded.

    The model is built from its config without weights, so a 7B model takes seconds and under 1 GB. Per split point:
    bytes that cross the network (raw, fp16, int8), and what the device holds (weights, activations, all its memory).
    Exits 1 where the model cannot be split, and says why.

        cleave doctor default

        cleave doctor ./my-model --memory 2GB --json
    """
    from cleave.doctor import examine_and_print

    if not examine_and_print(model, memory, size or (), as_json=as_json):
        raise typer.Exit(1)
