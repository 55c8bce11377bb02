"""`cleave trust`: what known_bundles.json of this device says, shown and changed."""

from __future__ import annotations

import json

import msgspec

from cleave.terminal import print_table, printable
from edge_node.bundle_store import default_folder
from edge_node.known_bundles import KnownBundles, digests_of, with_entry, without
from edge_node.trust import BY_USER, BundleTrust
from wire.errors import BadInput


def list_and_print(*, as_json: bool) -> None:
    """Every bundle that was trusted; of one cloud and model the last is the one in use."""
    file = KnownBundles(default_folder())
    known = file.read()
    if as_json:
        bundles = [msgspec.to_builtins(one) for one in known]
        print(json.dumps({"file": str(file.path), "bundles": bundles, "ok": True}))
        return
    rows = [
        (printable(one.cloud), printable(one.model), one.digest, one.first_seen, printable(one.trusted_by))
        for one in known
    ]
    print_table(str(file.path), ("cloud", "model", "bundle", "first seen", "trusted by"), rows)


def accept_and_print(cloud: str, model: str, digest: str, *, as_json: bool) -> None:
    """This bundle, too, may be used from now on."""
    BundleTrust.of(accepted=[digest])
    file = KnownBundles(default_folder())
    entry = file.entry(cloud, model, digest, BY_USER)
    known = file.change(lambda now: with_entry(now, entry))
    if as_json:
        print(json.dumps({"bundles": digests_of(known, cloud, model), "ok": True}))
        return
    print(f"bundle {digest[:12]} of {printable(model)} at {printable(cloud)} is trusted")


def forget_and_print(cloud: str, model: str | None, *, as_json: bool) -> None:
    """The next bundle that this cloud names is trusted as the first one was."""
    file = KnownBundles(default_folder())
    num_before = len(file.read())
    num_forgotten = num_before - len(file.change(lambda now: without(now, cloud, model)))
    if not num_forgotten:
        what = printable(cloud) if model is None else f"{printable(model)} at {printable(cloud)}"
        raise BadInput(f"no bundle of {what} is known; see `cleave trust list`")
    if as_json:
        print(json.dumps({"forgotten": num_forgotten, "ok": True}))
        return
    print(f"{num_forgotten} forgotten")
