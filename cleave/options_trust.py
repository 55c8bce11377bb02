"""The options of commands that fetch a bundle: which ones may run on this device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from edge_node.trust import KEY_VARIABLE, BundleTrust

_PANEL = "Trust"

BundleKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--bundle-key",
        envvar=KEY_VARIABLE,
        help="The public key of who signs the bundles, as base64 or a file: no other bundle is used. May be given "
        "several times. Without any, the first bundle that the cloud names is remembered and another one refused.",
        rich_help_panel=_PANEL,
    ),
]
AcceptBundles = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-bundle",
        help="Use the bundle of this digest (64 hex digits), whoever signed it.",
        rich_help_panel=_PANEL,
    ),
]
RefuseBundles = Annotated[
    list[str] | None,
    typer.Option(
        "--refuse-bundle",
        help="Never use the bundle of this digest, though it is signed.",
        rich_help_panel=_PANEL,
    ),
]


def bundle_trust(
    keys: Sequence[str] | None, accepted: Sequence[str] | None, refused: Sequence[str] | None
) -> BundleTrust:
    """What the three say together; raises BadInput."""
    return BundleTrust.of(keys or (), accepted or (), refused or ())
