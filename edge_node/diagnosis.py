"""Why a cloud cannot be reached: gRPC says that connecting fails, one more connection by hand says what to change."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from edge_node.credentials import Credentials
from wire.addresses import host_of
from wire.errors import CleaveError, Denied, Unavailable

_LIMIT_S = 2.0

# OpenSSL's codes of a certificate that does not hold (X509_V_ERR_*).
_NOT_YET, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64
# What a server ends a connection with when it does not take the device's certificate.
_ALERTS = {
    "CERTIFICATE_REQUIRED": "asks for this device's certificate; give --cert and --key",
    "UNKNOWN_CA": "does not know who signed this device's certificate; use one that its authority signed",
    "CERTIFICATE_EXPIRED": "finds this device's certificate expired; renew it",
    "BAD_CERTIFICATE": "does not take this device's certificate; use one that its authority signed",
    "CERTIFICATE_UNKNOWN": "does not take this device's certificate; use one that its authority signed",
}


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
    name = credentials.server_name or host_of(address)
    failure = await _handshake(address, context, name)
    if not uses_tls:
        # Whoever sends an alert, or shakes hands, speaks TLS.
        speaks_tls = failure is None or (
            isinstance(failure, ssl.SSLError) and "ALERT" in (failure.reason or "")
        )
        told = f"{address} speaks TLS only; say whose certificate it shows (--ca FILE, or --ca system)"
        return Unavailable(told) if speaks_tls else None
    return _explain(address, failure)


def _any_certificate() -> ssl.SSLContext:
    """Only to find out whether somebody speaks TLS: nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _handshake(address: str, context: ssl.SSLContext, name: str) -> Exception | None:
    """How it fails; None where it does not."""
    host, port = host_of(address), int(address.rpartition(":")[2])
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_LIMIT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            # In TLS 1.3 a server looks at the client's certificate after its own handshake is over.
            await reader.read(1)
    except (OSError, TimeoutError) as error:  # ssl.SSLError is one
        return error
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.transport.abort()
    return None


def _explain(address: str, failure: Exception | None) -> CleaveError | None:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return Unavailable(f"{address} {_of_certificate(failure)}")
    if isinstance(failure, ssl.SSLError):
        reason = failure.reason or ""
        for alert, told in _ALERTS.items():
            if alert in reason:
                return Denied(f"{address} {told}")
        return Unavailable(
            f"{address} speaks no TLS that this device understands ({reason.lower().replace('_', ' ')}), and nothing "
            "was sent; start the cloud with --tls-cert, or check the port"
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
