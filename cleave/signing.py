"""`cleave keygen` and `cleave sign`: an Ed25519 key pair, and a bundle's manifest.sig made with it."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from wire.errors import BadInput
from wire.manifest import MANIFEST_NAME, bundle_digest, check_files, load_manifest
from wire.signature import SIGNATURE_NAME, Signature, dump_signatures, key_id, signed_message

_MAX_KEY_FILE_BYTES = 64 << 10


def make_key_and_print(path: Path, *, as_json: bool) -> None:
    """Writes a new private key that its owner alone may read, and prints the public one; raises BadInput."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # Never over a key that is there: what it signed could not be signed again.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except OSError as error:
        raise BadInput(
            f"cannot write the private key to {path}: {error.strerror}; give a new file"
        ) from error
    public = public_text(key)
    if as_json:
        print(json.dumps({"private_key": str(path), "public_key": public, "key_id": _id_of(key), "ok": True}))
        return
    print(public)


def sign_and_print(bundle: Path, keys: Sequence[Path], *, as_json: bool) -> None:
    """Writes manifest.sig with a signature of each key, after checking every file; the digest stays what it was."""
    digest, signers = sign(bundle, [read_private_key(path) for path in keys])
    if as_json:
        print(json.dumps({"bundle": digest, "key_ids": signers, "ok": True}))
        return
    print(f"{digest} is signed with key {', '.join(signers)}")


def sign(bundle: Path, keys: Sequence[Ed25519PrivateKey]) -> tuple[str, list[str]]:
    """The bundle's digest and the ids of the keys; raises a CleaveError where a file of it is off."""
    # A signature is for all files: what is damaged here is not signed for everybody else.
    data = load_manifest_bytes(bundle)
    check_files(bundle, load_manifest(data))
    digest = bundle_digest(data)
    by_id = {_id_of(key): key for key in keys}
    message = signed_message(digest)
    signatures = [Signature(name, key.sign(message)) for name, key in by_id.items()]
    _write_whole(bundle / SIGNATURE_NAME, dump_signatures(signatures))
    return digest, list(by_id)


def load_manifest_bytes(bundle: Path) -> bytes:
    """The very bytes whose SHA-256 is the digest; raises BadInput."""
    try:
        return (bundle / MANIFEST_NAME).read_bytes()
    except OSError as error:
        raise BadInput(f"{bundle} holds no readable {MANIFEST_NAME}; is it a bundle?") from error


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """From PEM, as `cleave keygen` and `openssl genpkey -algorithm ed25519` write it; raises BadInput."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_FILE_BYTES)
        key = load_pem_private_key(data, password=None)
    except OSError as error:
        raise BadInput(f"cannot read the private key {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(
            f"{path} holds no private key as PEM without a password; make one with `cleave keygen`"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} holds another kind of key, and Ed25519 is expected; see `cleave keygen`")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """Base64 of the 32 bytes of its public key, as devices take it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _id_of(key: Ed25519PrivateKey) -> str:
    return key_id(key.public_key().public_bytes_raw())


def _write_whole(path: Path, data: bytes) -> None:
    """A cloud that serves the bundle finds the old file or the new one, and never half of one."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)  # it is as public as the bundle
        Path(name).replace(path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from error
