"""Certificates of a day, by authorities that a test makes: ECDSA, so that making them takes no time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `cert` is the file by which others know it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        made = _builder(self._name, self._name, self._key.public_key(), timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.cert = folder / f"{name}.pem"
        self.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def pair(
        self,
        common_name: str,
        *names: x509.GeneralName,
        lasts: timedelta = timedelta(days=1),
        into: Pair | None = None,
    ) -> Pair:
        """A new one, of this machine's loopback address where no names are given; `into` replaces another's files."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(_named(common_name), self._name, key.public_key(), lasts).add_extension(
            x509.SubjectAlternativeName(names or [LOOPBACK]), critical=False
        )
        pair = into or Pair(self._folder / f"{common_name}.pem", self._folder / f"{common_name}.key")
        pair.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lasts) - timedelta(days=1))
        .not_valid_after(now + lasts)
    )
