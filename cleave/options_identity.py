"""The options that say who one is to a cloud, and who may call it. Secrets are in files: `ps` shows what is typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_node.credentials import Credentials

_SHOWN = "Who is asking"
_ASKED = "Who may call"

# Of every command that connects.
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="A file that holds this device's token; or set CLEAVE_TOKEN_FILE, or the token itself as CLEAVE_TOKEN.",
        rich_help_panel=_SHOWN,
    ),
]
Ca = Annotated[
    str | None,
    typer.Option(
        help="Talk TLS: a file with the authority that signed the cloud's certificate, or 'system' for a public one "
        "(CLEAVE_CA).",
        rich_help_panel=_SHOWN,
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option(
        help="This device's own certificate, for a cloud that asks for one (CLEAVE_CERT).",
        rich_help_panel=_SHOWN,
    ),
]
Key = Annotated[
    Path | None, typer.Option(help="The key of that certificate (CLEAVE_KEY).", rich_help_panel=_SHOWN)
]

# Of `cleave cloud`.
TlsCert = Annotated[
    Path | None,
    typer.Option(help="The server's certificate, PEM; read again when it changes.", rich_help_panel=_ASKED),
]
TlsKey = Annotated[
    Path | None, typer.Option(help="Its key, PEM, without a passphrase.", rich_help_panel=_ASKED)
]
ClientCa = Annotated[
    Path | None,
    typer.Option(
        "--client-ca",
        help="Only edges with a certificate that this authority signed connect; its name may be a tenant's.",
        rich_help_panel=_ASKED,
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        help="The file of tenants, their limits and the hashes of their tokens; `cleave token new` writes it. Read "
        "again when it changes.",
        rich_help_panel=_ASKED,
    ),
]
TrustNetwork = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        help="Something else keeps strangers out and encrypts, such as a mesh or a proxy: listen beyond loopback "
        "without TLS, and without tokens if none are given.",
        rich_help_panel=_ASKED,
    ),
]


def shown(token_file: Path | None, ca: str | None, cert: Path | None, key: Path | None) -> Credentials:
    """What the environment says, and the options over it."""
    from edge_node.credentials import Credentials

    return Credentials.from_environment().with_given(token_file, ca, cert, key)
