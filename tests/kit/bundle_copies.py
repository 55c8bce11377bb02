"""Copies of a bundle that differ from it in one thing."""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cleave.signing import sign
from edge_node.trust import BundleTrust, PublicKey
from wire.manifest import bundle_digest


def rewritten(bundle: Path, folder: Path, version: int = 1) -> Path:
    """The same bundle with another digest."""
    shutil.copytree(bundle, folder)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n" * version)
    return folder


def signed(bundle: Path, folder: Path, *keys: Ed25519PrivateKey) -> Path:
    """The same bundle, signed by these."""
    shutil.copytree(bundle, folder)
    sign(folder, keys)
    return folder


def digest_of(bundle: Path) -> str:
    return bundle_digest((bundle / "manifest.json").read_bytes())


def trust_in(*keys: Ed25519PrivateKey) -> BundleTrust:
    """What only these sign may be used."""
    return BundleTrust(keys=tuple(PublicKey(key.public_key().public_bytes_raw()) for key in keys))
