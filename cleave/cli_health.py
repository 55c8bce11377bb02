"""`cleave health` on the command line: parses, calls, and imports what it needs then."""

from __future__ import annotations

from typing import Annotated

import typer

from cleave.options import AsJson
from cleave.options_identity import Ca, Cert, Key, shown
from wire.errors import BadInput


def health(
    cloud: Annotated[
        str, typer.Option("--cloud", envvar="CLEAVE_CLOUD", help="The cloud node's address, host:port.")
    ] = "",
    http: Annotated[
        str,
        typer.Option("--http", help="Ask its --metrics-listen address instead: no certificate, no token."),
    ] = "",
    alive: Annotated[
        bool, typer.Option("--alive", help="Whether the process lives, even while it starts or drains.")
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 5.0,
    as_json: AsJson = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Tell whether a cloud node takes requests; exit 1 where it does not. For probes and scripts.

    cleave health --cloud 127.0.0.1:50051
    """
    from cleave.health import health_and_print

    if not cloud and not http:
        raise BadInput("no address was given; give --cloud host:port, or set CLEAVE_CLOUD")
    shows = shown(None, ca, cert, key)
    health_and_print(cloud, http, alive=alive, timeout_s=timeout_s, as_json=as_json, credentials=shows)
