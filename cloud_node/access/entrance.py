"""The way in: the port and its TLS, who may call, and the files behind both, watched while the cloud listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from cloud_node.access.callers import Callers
from cloud_node.access.guard import Guard
from cloud_node.access.identity import Identity
from cloud_node.access.open_calls import OpenCalls
from cloud_node.access.reloading import Reloaded, keep_fresh
from cloud_node.access.tokens import MAX_FILE_BYTES, TenantTable, parse_tokens
from cloud_node.access.transport import open_port, watch_certificates
from wire.addresses import is_loopback
from wire.bounded_file import read_file
from wire.errors import BadInput

_log = logging.getLogger(__name__)

# Strangers may connect before anybody asks who they are: who says nothing is let go, and so is who calls nothing.
HANDSHAKE_S = 10.0
CONNECTION_IDLE_S = 300.0
# A certificate is looked at when a connection is made: one that has ended, or whose authority has, goes on no longer
# than this. Edges connect anew, and go on with their requests.
CONNECTION_AGE_S = 3600.0
CONNECTION_GRACE_S = 60.0


class Entrance:
    """Of one server. Files are read when it is made: a cloud that nobody could call does not start."""

    def __init__(self, identity: Identity) -> None:
        """Raises BadInput where a file cannot be used."""
        self._identity = identity
        self.certificates = watch_certificates(identity)
        self.tokens = watch_tokens(identity)
        tokens = self.tokens
        self.callers = Callers(None if tokens is None else lambda: tokens.value)
        self.calls = OpenCalls()
        self._watching: asyncio.Task[None] | None = None

    @property
    def interceptors(self) -> list[Guard]:
        return [Guard(self.callers if self._identity.asks else None, self.calls)]

    @property
    def options(self) -> list[tuple[str, int]]:
        """The server's, for connections that nobody has vouched for, or that somebody vouched for long ago."""
        options = [
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_S * 1000)),
            ("grpc.max_connection_idle_ms", int(CONNECTION_IDLE_S * 1000)),
        ]
        if self._identity.client_ca is not None:
            options += [
                ("grpc.max_connection_age_ms", int(CONNECTION_AGE_S * 1000)),
                ("grpc.max_connection_age_grace_ms", int(CONNECTION_GRACE_S * 1000)),
            ]
        return options

    @property
    def certificate_expires_s(self) -> float | None:
        """Unix time; None without TLS."""
        return None if self.certificates is None else self.certificates.value.expires_s

    def open(self, server: Any, listen: str, others: Sequence[Reloaded[Any]] = ()) -> int:
        """Listens, and from now on looks for new tokens, certificates and what `others` hold; returns the port."""
        asks_for_certificates = self._identity.client_ca is not None
        port = open_port(server, listen, self.certificates, asks=asks_for_certificates)
        if watched := [value for value in (self.certificates, self.tokens, *others) if value is not None]:
            self._watching = asyncio.create_task(keep_fresh(watched))
        _log.info("%s", self._protection(listen))
        return port

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    def _protection(self, listen: str) -> str:
        tls = "TLS" if self._identity.has_tls else "no TLS"
        if self._identity.asks:
            asked = [
                "a certificate" if self._identity.client_ca else "",
                "a token" if self._identity.tokens else "",
            ]
            return f"{tls}; callers show {' and '.join(filter(None, asked))}"
        if is_loopback(listen):
            return f"{tls}; nobody is asked who they are, so this listens on loopback only (--tokens, --client-ca)"
        return f"{tls}; nobody is asked who they are, and the network is trusted to keep strangers out"


def watch_tokens(identity: Identity) -> Reloaded[TenantTable] | None:
    """None where tokens are not asked for; raises BadInput where the file cannot be used."""
    if (path := identity.tokens) is None:
        return None

    def read() -> TenantTable:
        data = read_file(path, "the tokens", MAX_FILE_BYTES)
        try:
            return parse_tokens(data.decode())
        except (BadInput, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: {error}") from error

    return Reloaded([path], read)
