"""Tenants and their tokens, as the operator's file lists them: read strictly, held as hashes. Pure.

A token is 256 random bits, so its plain SHA-256 is enough at rest: nobody can try them all. A slow hash such as scrypt
protects what people choose; here it would only let strangers spend the cloud's time, call by call.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated

import msgspec

from cloud_node.asked.tenants import Tenant, TenantLimits
from wire.errors import BadInput, Denied

# What a token begins with: scanners that look for secrets in what was published find it by this.
_PREFIX = "cleave_"
_TOKEN = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
# In lower case alone: tenants that differ in case only would share a file's name on some systems.
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ID_CHARS = 12
MAX_FILE_BYTES = 4 << 20

_Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
_Rate = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _TenantEntry(msgspec.Struct, forbid_unknown_fields=True):
    share: _Positive = 1.0
    metrics: bool = False
    streams: _Count = 0
    requests_per_s: _Rate = 0.0
    bytes_per_s: _Rate = 0.0
    tokens_per_s: _Rate = 0.0
    index_items: _Count = 0


class _TokenEntry(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tenant: dict[str, _TenantEntry] = {}
    token: list[_TokenEntry] = []


@dataclass(frozen=True, slots=True)
class KnownToken:
    """One valid token, as its hash."""

    tenant: str
    digest: bytes
    expires_s: float  # Unix time; infinite where it does not expire

    @property
    def token_id(self) -> str:
        """What `cleave token list` and `revoke` call it."""
        return self.digest.hex()[:ID_CHARS]


@dataclass(frozen=True, slots=True)
class TenantTable:
    """Who may call. A tenant may have several tokens at once, so that a new one is handed out before the old goes."""

    tenants: Mapping[str, Tenant]
    tokens: Mapping[bytes, KnownToken]

    def of_token(self, token: str, now_s: float) -> Tenant:
        """Raises Denied for a token that is unknown or over."""
        digest = hash_token(token) if _TOKEN.fullmatch(token) else b""
        # Looked for by a hash that nobody can steer, and compared in constant time: neither tells how near a guess was.
        known = self.tokens.get(digest)
        if known is None or not hmac.compare_digest(known.digest, digest):
            raise Denied("the token is none of this cloud's; ask its operator for one (`cleave token new`)")
        if now_s >= known.expires_s:
            raise Denied("the token has expired; ask this cloud's operator for a new one")
        return self.tenants[known.tenant]

    def of_name(self, name: str) -> Tenant | None:
        return self.tenants.get(name)


def parse_tokens(text: str) -> TenantTable:
    """Raises BadInput, which says where the file is wrong; nothing of it holds then."""
    try:
        listed = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise BadInput(f"it is no list of tenants and tokens: {error}") from error
    names = dict.fromkeys([*listed.tenant, *(one.tenant for one in listed.token)])
    entries = {check_tenant(name): listed.tenant.get(name, _TenantEntry()) for name in names}
    tokens = [_known(one) for one in listed.token]
    by_digest = {one.digest: one for one in tokens}
    if len(by_digest) != len(tokens):
        raise BadInput("it lists one token twice; remove one of them")
    return TenantTable({name: _tenant(name, entry) for name, entry in entries.items()}, by_digest)


def check_tenant(name: str) -> str:
    """The name itself; raises BadInput unless it can be one of a tenant."""
    if not is_tenant_name(name):
        raise BadInput(f"{name[:64]!r} is no tenant's name: 1 to 64 characters of [a-z0-9_-], no sign first")
    return name


def is_tenant_name(name: str) -> bool:
    return _TENANT.fullmatch(name) is not None


def make_token() -> str:
    """A new one, of 256 random bits; nothing of it is kept here."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _known(entry: _TokenEntry) -> KnownToken:
    expires_s = math.inf if entry.expires is None else entry.expires.timestamp()
    return KnownToken(entry.tenant, bytes.fromhex(entry.sha256), expires_s)


def _tenant(name: str, entry: _TenantEntry) -> Tenant:
    limits = TenantLimits(
        streams=entry.streams,
        requests_per_s=entry.requests_per_s,
        bytes_per_s=entry.bytes_per_s,
        tokens_per_s=entry.tokens_per_s,
        index_items=entry.index_items,
    )
    return Tenant(name, entry.share, limits, entry.metrics)
