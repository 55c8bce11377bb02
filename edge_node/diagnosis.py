"""Why a cloud cannot be reached: gRPC says that connecting fails, one more connection by hand says what to change."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from edge_node.credentials import Credentials
from wire.addresses import host_of
from wire.errors import CleaveError, Denied, Unavailable

_LIMIT_S = 2.0

# OpenSSL's codes of a certificate that does not hold (X509_V_ERR_*).
_NOT_YET, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64


@dataclass(frozen=True, slots=True)
class _Met:
    """What came of connecting: a handshake that failed, or one that was followed by nothing."""

    failure: Exception | None = None
    is_closed: bool = False  # by the other side, where it should have said its first words

    @property
    def is_tls(self) -> bool:
        """Whoever shakes hands, or ends it with an alert, speaks TLS."""
        return self.failure is None or (
            isinstance(self.failure, ssl.SSLError) and "ALERT" in (self.failure.reason or "")
        )


async def why_unreachable(address: str, credentials: Credentials) -> CleaveError | None:
    """One sentence on what of TLS stands between, or None where it is something else. Sends no token."""
    if "," in address:
        return None  # several clouds, each with reasons of its own
    uses_tls = credentials.uses_tls(address)
    try:
        context = credentials.tls_context() if uses_tls else _any_certificate()
    except CleaveError as error:
        return error
    context.set_alpn_protocols(["h2"])
    met = await _meet(address, context, credentials.server_name or host_of(address))
    if uses_tls:
        return _explain(address, met, has_certificate=credentials.cert is not None)
    told = f"{address} speaks TLS only; say whose certificate it shows (--ca FILE, or --ca system)"
    return Unavailable(told) if met.is_tls else None


def _any_certificate() -> ssl.SSLContext:
    """Only to find out whether somebody speaks TLS: nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _meet(address: str, context: ssl.SSLContext, name: str) -> _Met:
    host, port = host_of(address), int(address.rpartition(":")[2])
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_LIMIT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            # In TLS 1.3 a server looks at the client's certificate after its own handshake is over.
            return _Met(is_closed=not await reader.read(1))
    except ssl.SSLError as error:
        return _Met(error)
    except (OSError, TimeoutError) as error:
        return _Met(error) if writer is None else _Met(is_closed=isinstance(error, ConnectionError))
    finally:
        if writer is not None:
            writer.transport.abort()


def _explain(address: str, met: _Met, *, has_certificate: bool) -> CleaveError | None:
    reason = met.failure.reason or "" if isinstance(met.failure, ssl.SSLError) else ""
    if met.is_closed or ("ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)):
        if has_certificate:
            told = "does not take this device's certificate; use one that its authority signed and that holds today"
        else:
            told = "asks for this device's certificate; give --cert and --key"
        return Denied(f"{address} {told}")
    if isinstance(met.failure, ssl.SSLCertVerificationError):
        return Unavailable(f"{address} {_of_certificate(met.failure)}")
    if isinstance(met.failure, ssl.SSLError):
        told = reason.lower().replace("_", " ") or "no reason given"
        return Unavailable(
            f"{address} speaks no TLS that this device understands ({told}), and nothing was sent; start the cloud "
            "with --tls-cert, or check the port"
        )
    return None


def _of_certificate(failure: ssl.SSLCertVerificationError) -> str:
    if failure.verify_code == _EXPIRED:
        return "shows a certificate that has expired; it must be renewed there (or is this device's clock wrong?)"
    if failure.verify_code == _NOT_YET:
        return "shows a certificate that is not valid yet; is this device's clock right?"
    if failure.verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        return "shows a certificate for another name; use the name in it as the address, or as CLEAVE_SERVER_NAME"
    return (
        f"shows a certificate that the given authority did not sign ({failure.verify_message}); give the one that did "
        "(--ca)"
    )
