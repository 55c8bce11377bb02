"""The commands about trust in bundles: keygen, sign, trust. Each parses, calls, and imports what it needs then."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cleave.options import AsJson

trust = typer.Typer(no_args_is_help=True, help="Show and change which bundles this device trusts.")

CloudName = Annotated[
    str, typer.Argument(metavar="CLOUD", help="Its address, as devices name it: host:port.")
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The name it is served under.")]


def keygen(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; a new file.")],
    as_json: AsJson = False,
) -> None:
    """Make a key pair to sign bundles with: the private key into a file, the public one on standard output.

    cleave keygen bundles.pem > bundles.pub
    """
    from cleave.signing import make_key_and_print

    make_key_and_print(file, as_json=as_json)


def sign(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    key: Annotated[
        list[Path],
        typer.Option(
            "--key", help="A private key, PEM; with several, a device needs one of their public keys."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Sign a bundle for devices that have the public key: writes manifest.sig beside its files.

    A signature that is there is replaced; a cloud that serves the bundle serves the new one at once. For example:

        cleave sign build/default --key bundles.pem
    """
    from cleave.signing import sign_and_print

    sign_and_print(bundle, key, as_json=as_json)


@trust.command("list")
def list_bundles(as_json: AsJson = False) -> None:
    """List the bundles that were trusted, of which cloud and model, since when, and why."""
    from cleave.trusting import list_and_print

    list_and_print(as_json=as_json)


@trust.command()
def accept(
    cloud: CloudName,
    model: ModelName,
    digest: Annotated[str, typer.Argument(help="The bundle's digest, 64 hex digits.")],
    as_json: AsJson = False,
) -> None:
    """Trust one more bundle of a cloud's model, after asking whoever runs it whether the digest is right."""
    from cleave.trusting import accept_and_print

    accept_and_print(cloud, model, digest, as_json=as_json)


@trust.command()
def forget(
    cloud: CloudName,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The name it is served under; all of them without.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forget a cloud's bundles: the next one that it names is trusted as the first one was."""
    from cleave.trusting import forget_and_print

    forget_and_print(cloud, model, as_json=as_json)
