"""What a device shows of itself to a cloud, and by what it knows the cloud: a token, certificates, an authority."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wire.addresses import is_loopback
from wire.bounded_file import read_file
from wire.errors import BadInput

# As an authority: those that this machine trusts, for a cloud whose certificate is a public one.
SYSTEM = "system"
_MAX_FILE_BYTES = 1 << 20
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files are PEM. With none of them, and no token, the connection is plain."""

    token: str = field(default="", repr=False)
    token_file: Path | None = None  # holds the token alone; read at each call, so that it may be replaced
    ca: Path | str | None = None  # whose certificates the cloud may show; "system": a public authority's
    cert: Path | None = None  # this device's own, where the cloud asks for one
    key: Path | None = None  # of that certificate
    server_name: str = ""  # in the cloud's certificate, where it is not the address's host

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise BadInput("a certificate and its key go together; give both (--cert and --key), or neither")
        if self.token and self.token_file is not None:
            raise BadInput("a token and a file with a token were given; give one of them")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Credentials:
        """CLEAVE_TOKEN or CLEAVE_TOKEN_FILE, CLEAVE_CA, CLEAVE_CERT, CLEAVE_KEY, CLEAVE_SERVER_NAME."""

        def path(name: str) -> Path | None:
            return Path(value) if (value := environment.get(name)) else None

        return cls(
            token=environment.get("CLEAVE_TOKEN", ""),
            token_file=path("CLEAVE_TOKEN_FILE"),
            ca=environment.get("CLEAVE_CA") or None,
            cert=path("CLEAVE_CERT"),
            key=path("CLEAVE_KEY"),
            server_name=environment.get("CLEAVE_SERVER_NAME", ""),
        )

    def with_given(
        self,
        token_file: Path | None = None,
        ca: str | None = None,
        cert: Path | None = None,
        key: Path | None = None,
    ) -> Credentials:
        """These, where something else was not said."""
        return replace(
            self,
            token="" if token_file is not None else self.token,
            token_file=token_file or self.token_file,
            ca=ca or self.ca,
            cert=cert or self.cert,
            key=key or self.key,
        )

    @property
    def has_token(self) -> bool:
        return bool(self.token) or self.token_file is not None

    def uses_tls(self, address: str) -> bool:
        """Whether to talk TLS with that address: always where a token would cross a network."""
        return self.ca is not None or self.cert is not None or (self.has_token and not is_loopback(address))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries; raises BadInput where the token's file cannot be read."""
        if not self.has_token:
            return ()
        token = self.token or _read(self.token_file, "the token file").decode("ascii", "replace").strip()
        if not _TOKEN.fullmatch(token):
            raise BadInput(
                "the token is no single word; give what `cleave token new` printed, and nothing else"
            )
        return (("authorization", f"Bearer {token}"),)

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The authorities (None: the usual ones), this device's key and its certificate; raises BadInput."""
        self.tls_context()
        ca = None if self.ca in (None, SYSTEM) else _read(Path(str(self.ca)), "the authority")
        if self.cert is None or self.key is None:
            return ca, None, None
        return ca, _read(self.key, "the key"), _read(self.cert, "the certificate")

    def tls_context(self) -> ssl.SSLContext:
        """The same for Python's own TLS, which checks the files and explains failures better than gRPC's."""
        context = ssl.create_default_context()
        if self.ca not in (None, SYSTEM):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            data = _read(Path(str(self.ca)), "the authority")
            try:
                context.load_verify_locations(cadata=data.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise BadInput(
                    f"{self.ca} holds no certificate in PEM; give the authority's (--ca)"
                ) from error
        if self.cert is not None and self.key is not None:
            _read(self.cert, "the certificate")
            _read(self.key, "the key")
            try:
                context.load_cert_chain(self.cert, self.key, password=lambda: b"")
            except (ssl.SSLError, ValueError) as error:
                raise BadInput(
                    f"{self.cert} and {self.key} are no certificate and its key, in PEM and without a passphrase"
                ) from error
        return context


NO_CREDENTIALS = Credentials()


def _read(path: Path | None, what: str) -> bytes:
    assert path is not None
    return read_file(path, what, _MAX_FILE_BYTES)
