"""How a device connects: a channel with what it needs of TLS, and calls that carry the device's token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import grpc

from edge_node.credentials import Credentials
from wire.addresses import is_loopback
from wire.checked import checked_stub
from wire.limits import grpc_options
from wire.v1 import inference_pb2_grpc as pb_grpc

Metadata = tuple[tuple[str, str], ...]


def open_channel(address: str, credentials: Credentials, target: str = "") -> grpc.aio.Channel:
    """Connects on first use; `target` is what gRPC calls the address, if it is not the same.

    A token never leaves this machine unencrypted. Raises BadInput where a file of the credentials cannot be used.
    """
    secure, options = security_of(address, credentials)
    options = [*grpc_channel_options(), *options]
    if secure is None:
        return grpc.aio.insecure_channel(target or address, options=options)
    return grpc.aio.secure_channel(target or address, secure, options=options)


def security_of(address: str, credentials: Credentials) -> tuple[Any, list[tuple[str, Any]]]:
    """gRPC's credentials of a channel, None for a plain one, and the options that go with it."""
    if not credentials.uses_tls(address):
        # A proxy of the environment would get what is meant for this machine.
        return None, [("grpc.enable_http_proxy", 0)] if is_loopback(address) else []
    ca, key, cert = credentials.pem()
    name = credentials.server_name
    options = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.ssl_channel_credentials(ca, key, cert), options


def open_stub(channel: grpc.aio.Channel, credentials: Credentials) -> pb_grpc.InferenceStub:
    """The calls of the service, each with the token that holds when it begins."""
    stub = checked_stub(channel)
    return cast(pb_grpc.InferenceStub, _Carrying(stub, credentials)) if credentials.has_token else stub


class _Carrying:
    """An interceptor would do the same, and hand every message of a stream through a queue of its own."""

    def __init__(self, stub: Any, credentials: Credentials) -> None:
        def carrying(call: Callable[..., Any]) -> Callable[..., Any]:
            def begin(*args: Any, metadata: Metadata = (), **options: Any) -> Any:
                return call(*args, metadata=(*metadata, *credentials.metadata()), **options)

            return begin

        self.Stream = carrying(stub.Stream)
        self.Describe = carrying(stub.Describe)
        self.FetchBundle = carrying(stub.FetchBundle)
        self.Metrics = carrying(stub.Metrics)


def grpc_channel_options() -> list[tuple[str, Any]]:
    """The shared options, and a fast first failure: whoever asks wants to know now."""
    return [
        *grpc_options(),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
