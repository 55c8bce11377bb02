"""TLS on the cloud's side: certificates checked before they are shown, and shown anew when their files change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from cloud_node.access.identity import Identity
from cloud_node.access.reloading import Reloaded
from wire.bounded_file import read_file
from wire.errors import BadInput

_MAX_PEM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a handshake shows, as gRPC takes it, and when it ends."""

    configuration: Any
    expires_s: float  # Unix time; of the server's own certificate


def open_port(server: Any, listen: str, certificates: Reloaded[Certificates] | None, *, asks: bool) -> int:
    """Listens, with TLS where there are certificates; raises BadInput where the address is taken."""
    try:
        if certificates is None:
            return int(server.add_insecure_port(listen))
        return int(server.add_secure_port(listen, _credentials(certificates, asks)))
    except RuntimeError as error:
        raise BadInput(f"cannot listen on {listen}; is the address taken?") from error


def watch_certificates(identity: Identity) -> Reloaded[Certificates] | None:
    """None where there are none; raises BadInput where they cannot be used."""
    if identity.tls_cert is None or identity.tls_key is None:
        return None
    cert, key, ca = identity.tls_cert, identity.tls_key, identity.client_ca
    paths = [cert, key] if ca is None else [cert, key, ca]
    return Reloaded(paths, lambda: _read(cert, key, ca))


def _credentials(certificates: Reloaded[Certificates], asks: bool) -> Any:
    """gRPC asks for the certificates at every connection; those that are open keep theirs."""
    return grpc.dynamic_ssl_server_credentials(
        certificates.value.configuration, _news_of(certificates), require_client_authentication=asks
    )


def _news_of(certificates: Reloaded[Certificates]) -> Callable[[], Any]:
    """What gRPC calls, in threads of its own: a configuration that it has not got yet, or None."""
    told = certificates.value

    def news() -> Any:
        nonlocal told
        latest = certificates.value
        if latest is told:
            return None
        told = latest
        return latest.configuration

    return news


def _read(cert_path: Path, key_path: Path, ca_path: Path | None) -> Certificates:
    cert = read_file(cert_path, "the certificate", _MAX_PEM_BYTES)
    key = read_file(key_path, "the key", _MAX_PEM_BYTES)
    ca = None if ca_path is None else read_file(ca_path, "the authority", _MAX_PEM_BYTES)
    own = _parsed(cert, cert_path)[0]
    if ca is not None and ca_path is not None:
        _parsed(ca, ca_path)
    if own.not_valid_after_utc <= datetime.now(UTC):
        raise BadInput(f"the certificate {cert_path} ended on {own.not_valid_after_utc:%Y-%m-%d}; renew it")
    _require_pair(own, key, cert_path, key_path)
    configuration = grpc.ssl_server_certificate_configuration([(key, cert)], ca)
    return Certificates(configuration, own.not_valid_after_utc.timestamp())


def _parsed(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadInput(
            f"{path} is no certificate in PEM; give one that begins with BEGIN CERTIFICATE"
        ) from error


def _require_pair(cert: x509.Certificate, key: bytes, cert_path: Path, key_path: Path) -> None:
    """Of the bytes that were read, not of the files: they may change meanwhile."""
    try:
        own = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a passphrase
        raise BadInput(
            f"{key_path} is no key in PEM without a passphrase; give the certificate's own"
        ) from error
    if own.public_key() != cert.public_key():
        raise BadInput(f"the key {key_path} is not that of the certificate {cert_path}; give its own")
