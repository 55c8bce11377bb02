"""Whose call it is: from the token that it carries, or from the certificate of its connection."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from cloud_node.access.tokens import TenantTable, is_tenant_name
from cloud_node.asked.tenants import ANYBODY, Tenant
from wire.errors import Denied

_HEADER, _SCHEME = "authorization", "bearer "

Metadata = Iterable[tuple[str, str | bytes]]
Certificate = Mapping[str, Iterable[bytes]]  # gRPC's properties of a connection


@dataclass(frozen=True, slots=True)
class Caller:
    """Who opened a call. A stream outlives tokens and limits, so each request asks anew."""

    find: Callable[[], Tenant]

    def tenant(self) -> Tenant:
        """Raises Denied once the caller may call no more."""
        return self.find()


# Of a cloud that asks nobody who they are.
ANYONE = Caller(lambda: ANYBODY)

# Of the call that is served, for whoever serves it.
CALLER: ContextVar[Caller] = ContextVar("caller", default=ANYONE)


class Callers:
    """Tells callers apart. `table` gives what the tokens' file holds now; None: there is none.

    `denied` counts those who were not let in, by what they lacked.
    """

    def __init__(
        self, table: Callable[[], TenantTable] | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._clock = clock
        self.denied: Counter[tuple[str, ...]] = Counter()

    def identify(self, metadata: Metadata, certificate: Certificate) -> Caller:
        """Raises Denied for whoever is no tenant here."""
        tokens = [value for name, value in metadata if name == _HEADER]
        names = _names_of(certificate)
        caller = Caller(lambda: self._tenant(tokens, names))
        try:
            caller.tenant()
        except Denied:
            self.denied[("credentials" if tokens or names else "nothing",)] += 1
            raise
        return caller

    def _tenant(self, tokens: list[str | bytes], names: frozenset[str]) -> Tenant:
        certified = self._of_certificate(names) if names else None
        if not tokens and certified is not None:
            return certified
        if len(tokens) != 1 or self._table is None:
            raise Denied(self._wanted(len(tokens)))
        tenant = self._table().of_token(_bearer(tokens[0]), self._clock())
        if certified is not None and certified.name != tenant.name:
            raise Denied("the token is of one tenant and the certificate of another; use those of one")
        return tenant

    def _of_certificate(self, names: frozenset[str]) -> Tenant | None:
        """None where it names no tenant: then it is only what opens the connection."""
        if self._table is None:
            tenants = [Tenant(name) for name in names if is_tenant_name(name)]
        else:
            table = self._table()
            tenants = [tenant for name in names if (tenant := table.of_name(name)) is not None]
        if len(tenants) > 1:
            raise Denied("the certificate names several tenants; use one that names one")
        return tenants[0] if tenants else None

    def _wanted(self, num_tokens: int) -> str:
        if num_tokens > 1:
            return "the call carries several tokens; send one"
        if self._table is None:
            return "the certificate names no tenant; its common name must be 1 to 64 characters of [a-z0-9_-]"
        return (
            "this cloud asks who calls; give a token (CLEAVE_TOKEN, --token-file) or a tenant's certificate"
        )


def _bearer(header: str | bytes) -> str:
    text = header.decode("ascii", "replace") if isinstance(header, bytes) else header
    if not text.lower().startswith(_SCHEME):
        raise Denied("the call's authorization is no bearer token; send `Bearer TOKEN`")
    return text[len(_SCHEME) :].strip()


def _names_of(certificate: Certificate) -> frozenset[str]:
    """The common name and the DNS names of the certificate that the peer showed, if it was asked for one."""
    found = [*certificate.get("x509_common_name", ()), *certificate.get("peer_dns", ())]
    return frozenset(name.decode("utf-8", "replace") for name in found)
