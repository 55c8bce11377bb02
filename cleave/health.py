"""`cleave health`: asks a cloud node whether it lives, or takes requests: by gRPC's health service, or over HTTP."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge_node.channel import security_of
from edge_node.credentials import NO_CREDENTIALS, Credentials
from wire.errors import Unavailable, from_rpc_error
from wire.limits import grpc_options
from wire.v1 import inference_pb2 as pb

# Readiness is that of the service; of "" it is whether the process lives.
READY_SERVICE: str = pb.DESCRIPTOR.services_by_name["Inference"].full_name


def health_and_print(
    cloud: str,
    http: str,
    *,
    alive: bool,
    timeout_s: float,
    as_json: bool,
    credentials: Credentials = NO_CREDENTIALS,
) -> None:
    """Prints one word; raises Unavailable where nobody answers, or the answer is no. `http` goes before `cloud`."""
    wanted, address = ("alive" if alive else "ready"), http or cloud
    told = _told_http(http, alive, timeout_s) if http else _told_grpc(cloud, alive, timeout_s, credentials)
    if told:
        raise Unavailable(f"{address} is not {wanted} ({told}); it starts or closes, so ask again later")
    print(json.dumps({"ok": True, "address": address, "state": wanted}) if as_json else wanted)


def _told_grpc(address: str, alive: bool, timeout_s: float, credentials: Credentials) -> str:
    """What speaks against it; empty: nothing. Raises the CleaveError that the call ended with."""
    asked = health_pb2.HealthCheckRequest(service="" if alive else READY_SERVICE)
    with _channel(address, credentials) as channel:
        try:
            told = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=timeout_s).status
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from error
    status = health_pb2.HealthCheckResponse.ServingStatus
    return "" if told == status.Value("SERVING") else status.Name(told).lower()


def _channel(address: str, credentials: Credentials) -> grpc.Channel:
    """A check carries no token: it is open to whoever can connect."""
    secure, more = security_of(address, credentials)
    options = [*grpc_options(), *more]
    if secure is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, secure, options=options)


def _told_http(address: str, alive: bool, timeout_s: float) -> str:
    """The same, of the address that serves the metrics: it needs no certificate and no token."""
    url = f"http://{address}/{'healthz' if alive else 'readyz'}"
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"nobody answers at {url} ({error}); does `cleave cloud --metrics-listen` run?"
        ) from error
