"""`cleave token`: tokens of tenants, made, listed and revoked in the file that `cleave cloud --tokens` reads."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cleave.options import AsJson

token = typer.Typer(
    no_args_is_help=True,
    help="Who may call a cloud: tokens of tenants, in the file that `cleave cloud --tokens FILE` reads.",
)

File = Annotated[Path, typer.Option("--file", help="The file of tenants and tokens.")]


@token.command()
def new(
    tenant: Annotated[str, typer.Argument(help="Whose it is: 1 to 64 small letters, digits, _ and -.")],
    file: File = Path("tokens.toml"),
    days: Annotated[
        float | None, typer.Option(min=0, max=36500, help="Until it expires; for ever without.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and add its hash to the file: it is shown now, and never again.

    A tenant may have several at once. To rotate: make a new one, hand it out, revoke the old. A cloud that runs takes
    the change within a second.

        cleave token new acme --days 90 > acme.token

        cleave ask --cloud cloud.example:50051 --token-file acme.token --ca system --image photo.jpg "What is this?"
    """
    from cloud_node.access.token_file import add_token

    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    made = add_token(file, tenant, expires)
    if as_json:
        ends = None if expires is None else expires.isoformat(timespec="seconds")
        print(json.dumps({"tenant": tenant, "token": made, "expires": ends, "ok": True}))
    else:
        print(made)


@token.command("list")
def list_(file: File = Path("tokens.toml"), as_json: AsJson = False) -> None:
    """Show whose tokens are in the file, by the ids that `revoke` takes, and when they expire."""
    from cleave.terminal import print_table
    from cloud_node.access.token_file import list_tokens

    known = list_tokens(file)
    ends = [
        None
        if math.isinf(one.expires_s)
        else datetime.fromtimestamp(one.expires_s, UTC).isoformat(timespec="seconds")
        for one in known
    ]
    rows = [(one.tenant, one.token_id, end) for one, end in zip(known, ends, strict=True)]
    if as_json:
        print(
            json.dumps({"tokens": [dict(zip(("tenant", "id", "expires"), row, strict=True)) for row in rows]})
        )
        return
    print_table(
        str(file), ("tenant", "id", "expires"), [(who, which, end or "never") for who, which, end in rows]
    )


@token.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="The id that `cleave token list` shows.")],
    file: File = Path("tokens.toml"),
) -> None:
    """Take a token out of the file. A cloud that runs refuses it within a second, on open streams, too."""
    from cloud_node.access.token_file import revoke_token

    known = revoke_token(file, token_id)
    print(f"token {known.token_id} of tenant {known.tenant} is revoked")
