"""Who may call this cloud, and how their calls are protected: what the operator sets, and what goes together. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wire.addresses import is_loopback
from wire.errors import BadInput


@dataclass(frozen=True, slots=True)
class Identity:
    """Nothing given: whoever is on this machine may call, and nobody else can."""

    tls_cert: Path | None = None  # PEM: the server's certificate, and those between it and its authority
    tls_key: Path | None = None  # PEM, without a passphrase
    client_ca: Path | None = None  # PEM: who signs the certificates that edges show
    tokens: Path | None = None  # TOML: tenants, their limits and the hashes of their tokens
    trust_network: bool = False  # whatever reaches the address is trusted: a mesh or a proxy looks after it

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadInput("a certificate and its key go together; give --tls-cert and --tls-key, or neither")
        if self.client_ca is not None and not self.has_tls:
            raise BadInput("edges show certificates over TLS only; give --tls-cert and --tls-key, too")

    @property
    def has_tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def asks(self) -> bool:
        """Whether a caller must say who they are."""
        return self.tokens is not None or self.client_ca is not None

    def require_safe(self, listen: str) -> None:
        """Raises BadInput where strangers could call, or tokens would cross a network for all to read."""
        if self.trust_network or is_loopback(listen):
            return
        if not self.asks:
            raise BadInput(
                f"{listen} can be reached from other machines, and nothing says who may call; give --tokens (with "
                "--tls-cert and --tls-key) or --client-ca, or listen on 127.0.0.1"
            )
        if not self.has_tls:
            raise BadInput(
                f"tokens would come to {listen} unencrypted, for anybody on the way to read; give --tls-cert and "
                "--tls-key, or --trust-network where a mesh or a proxy encrypts them"
            )
