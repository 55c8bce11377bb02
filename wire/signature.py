"""A bundle's signature, manifest.sig: what is signed, and the file's format. The rules are in docs/wire.md.

No key is used here: `cleave sign` has the private ones, and edge_node/trust.py the public ones.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from wire.bundle_files import open_plain
from wire.errors import MalformedMessage, TooLarge

SIGNATURE_NAME = "manifest.sig"
# 16 signatures take 2 KiB.
MAX_SIGNATURE_BYTES = 16 << 10
MAX_SIGNATURES = 16
PUBLIC_KEY_BYTES = 32

# Of a signature's message: it can be of nothing else that the same key ever signs.
_DOMAIN = b"cleave bundle v1\0"

KeyId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    """One key's; in JSON its 64 bytes are base64."""

    key_id: KeyId
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    format_version: Literal[1]
    algorithm: Literal["ed25519"]
    signatures: Annotated[list[Signature], Meta(min_length=1, max_length=MAX_SIGNATURES)]


def signed_message(bundle_digest: str) -> bytes:
    """The 49 bytes that are signed for a bundle of that digest (64 hex digits)."""
    digest = bytes.fromhex(bundle_digest)
    assert len(digest) == 32
    return _DOMAIN + digest


def key_id(public_key: bytes) -> str:
    """16 hex digits that name a public key of 32 bytes: they say which key to try, and prove nothing."""
    assert len(public_key) == PUBLIC_KEY_BYTES
    return sha256(public_key).hexdigest()[:16]


def dump_signatures(signatures: list[Signature]) -> bytes:
    """The bytes of manifest.sig."""
    encoded = msgspec.json.encode(_File(1, "ed25519", signatures), order="deterministic")
    load_signatures(encoded)
    return msgspec.json.format(encoded, indent=2) + b"\n"


def load_signatures(data: bytes) -> list[Signature]:
    """What a manifest.sig says; raises TooLarge or MalformedMessage."""
    if len(data) > MAX_SIGNATURE_BYTES:
        raise TooLarge(f"{SIGNATURE_NAME} has {len(data):,} bytes; at most {MAX_SIGNATURE_BYTES:,} are read")
    try:
        return msgspec.json.decode(data, type=_File).signatures
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"{SIGNATURE_NAME} is not valid: {error}; sign the bundle again") from error


def read_signature(folder: Path) -> bytes | None:
    """The bytes of a bundle's manifest.sig, None where nobody signed it.

    Raises IncompatibleBundle (a link, or no plain file) or TooLarge.
    """
    if not os.path.lexists(folder / SIGNATURE_NAME):
        return None
    with open_plain(folder, SIGNATURE_NAME) as file:
        data = file.read(MAX_SIGNATURE_BYTES + 1)
    if len(data) > MAX_SIGNATURE_BYTES:
        raise TooLarge(
            f"{folder / SIGNATURE_NAME} has more than {MAX_SIGNATURE_BYTES:,} bytes; sign the bundle again"
        )
    return data
