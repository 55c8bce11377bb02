"""Which bundles a device trusts: the one it met first, those whose digest it was told, or those that a key signed.

A decision, and no file: edge_node/known_bundles.py remembers, edge_node/bundle_check.py asks. Why it is so:
docs/decisions/0016-bundle-trust.md.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wire.errors import BadInput, Denied, MalformedMessage, TooLarge
from wire.signature import PUBLIC_KEY_BYTES, key_id, load_signatures, signed_message

KEY_VARIABLE = "CLEAVE_BUNDLE_KEY"
FIRST_USE = "first use"
BY_USER = "user"

_MAX_KEY_FILE_BYTES = 64 << 10
_MAX_LISTED = 8  # names in a sentence
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Ed25519, RFC 8032: 32 bytes."""

    raw: bytes

    @property
    def key_id(self) -> str:
        return key_id(self.raw)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        # Loaded only where somebody gave a key: a small device need not hold it.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class BundleTrust:
    """With no `keys`, the first bundle that a cloud names for a model is remembered, and another one is refused.

    With keys only what one of them signed is used. `accepted` digests are used in any case, `refused` ones in none:
    that is how a signed bundle is taken back. Without `pins` nothing is remembered: for a cloud that one has started
    oneself.
    """

    keys: tuple[PublicKey, ...] = ()
    accepted: frozenset[str] = field(default_factory=frozenset)
    refused: frozenset[str] = field(default_factory=frozenset)
    pins: bool = True

    @classmethod
    def of(
        cls, keys: Iterable[str | Path] = (), accepted: Iterable[str] = (), refused: Iterable[str] = ()
    ) -> BundleTrust:
        """Keys as base64 or as files, digests as 64 hex digits; raises BadInput for what is neither."""
        return cls(
            tuple(read_public_key(key) for key in keys),
            frozenset(map(_checked_digest, accepted)),
            frozenset(map(_checked_digest, refused)),
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> BundleTrust:
        """The keys that $CLEAVE_BUNDLE_KEY lists, separated by spaces."""
        return cls.of(environment.get(KEY_VARIABLE, "").split())


@dataclass(frozen=True, slots=True)
class Offered:
    """What a cloud says that it serves under a model's name."""

    cloud: str  # its address, host:port
    model: str
    digest: str
    is_named: bool = False  # by the user; otherwise the cloud chose the model


def decide(
    trust: BundleTrust,
    offered: Offered,
    known: Sequence[str],
    signature: bytes | None,
    known_models: Sequence[str] = (),
) -> str:
    """Why the bundle is trusted: "first use", "user", "key ID", or as before (""). Raises Denied where it is not.

    `known` are the digests remembered of this cloud and model, `known_models` the models remembered of this cloud,
    `signature` the bytes of manifest.sig, if there are any.
    """
    digest = offered.digest
    if digest in trust.refused:
        raise Denied(f"bundle {digest} of {_named(offered)} was taken back, and this device refuses it")
    if digest in trust.accepted:
        return "" if digest in known else BY_USER
    if trust.keys:
        return f"key {_signer(trust, offered, signature).key_id}"
    if not known:
        _require_first(offered, known_models)
        return FIRST_USE
    if digest in known:
        return ""
    raise Denied(
        f"{offered.cloud} names another bundle of {offered.model!r} than before: {digest}, and this device knows "
        f"{', '.join(one[:12] for one in known)}; nothing of it was fetched; if the change is meant, say "
        f"{_acceptance(offered)}, or give the key that signs such bundles (--bundle-key)"
    )


def _require_first(offered: Offered, known_models: Sequence[str]) -> None:
    """A first use is of the address, or of a model that the user names: else a new name would undo what is known."""
    if not known_models or offered.is_named:
        return
    raise Denied(
        f"{offered.cloud} offers {offered.model!r}, of which this device knows no bundle, while it knows "
        f"{' and '.join(map(repr, known_models[:_MAX_LISTED]))} of this cloud; nothing of it was fetched; name the "
        f"model that you mean (--model), say {_acceptance(offered)}, or give the key that signs such bundles "
        "(--bundle-key)"
    )


def _acceptance(offered: Offered) -> str:
    return f"`cleave trust accept {_quoted(offered.cloud)} {_quoted(offered.model)} {offered.digest}`"


def _signer(trust: BundleTrust, offered: Offered, signature: bytes | None) -> PublicKey:
    """The key of ours that signed it; raises Denied."""
    ours = {key.key_id: key for key in trust.keys}
    expected = f"a signature of key {' or '.join(ours)} is expected"
    if signature is None:
        raise Denied(f"bundle {offered.digest} of {_named(offered)} is not signed, and {expected}")
    try:
        signatures = load_signatures(signature)
    except (MalformedMessage, TooLarge) as error:
        raise Denied(f"bundle {offered.digest} of {_named(offered)}: {error}; {expected}") from error
    message = signed_message(offered.digest)
    for one in signatures:
        key = ours.get(one.key_id)
        if key is not None and key.has_signed(message, one.signature):
            return key
    signers = ", ".join(one.key_id for one in signatures)
    is_forged = any(one.key_id in ours for one in signatures)
    what = "does not fit: it is of another bundle, or forged" if is_forged else f"is of key {signers}"
    raise Denied(f"the signature of bundle {offered.digest} of {_named(offered)} {what}; {expected}")


def read_public_key(source: str | Path) -> PublicKey:
    """From base64 of its 32 bytes, or from a file that holds this or PEM; raises BadInput."""
    raw = None if isinstance(source, Path) else _from_base64(source)
    if raw is not None:
        return PublicKey(raw)
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{str(source)[:200]!r} is no public key: give the base64 line that `cleave keygen` prints, or a file that "
            "holds it"
        ) from error
    if b"PRIVATE KEY" in data:
        raise BadInput(f"{path} holds a private key, which no device needs; give its public key")
    raw = _from_pem(data) if b"-----BEGIN" in data else _from_base64(data.decode("ascii", "replace"))
    if raw is None:
        raise BadInput(f"{path} holds no Ed25519 public key, as base64 or PEM; see `cleave keygen`")
    return PublicKey(raw)


def _from_base64(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == PUBLIC_KEY_BYTES else None


def _from_pem(data: bytes) -> bytes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def _checked_digest(digest: str) -> str:
    if _DIGEST.fullmatch(digest) is None:
        raise BadInput(f"{digest[:80]!r} is no bundle digest, which has 64 hex digits; see `cleave describe`")
    return digest


def _quoted(text: str) -> str:
    """As an argument that may be copied into a shell, whatever a cloud calls its models."""
    return shlex.quote(text) if text.isprintable() else "MODEL"


def _named(offered: Offered) -> str:
    return f"{offered.model!r} at {offered.cloud}"
