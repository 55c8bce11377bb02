"""How much strangers can make gRPC hold before any of our own code hears of them: connections, streams, messages."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields

from wire.errors import BadInput
from wire.limits import KIB, MAX_MESSAGE_BYTES, MIB, Limits, grpc_options

try:
    import resource
except ImportError:  # no Unix: the system has no such bound
    resource = None  # type: ignore[assignment]

# Of what a process holds open beside connections: files, listening sockets, pipes, a store's connections.
_OTHER_FILES = 256
# What an Open holds beside its prompt and its payloads: headers, settings, keys.
_REST_OF_OPEN_BYTES = 512 * KIB
_LEAST_MESSAGE_BYTES = 1 * MIB
_UTF8_BYTES = 4  # of a character, at most


@dataclass(frozen=True, slots=True)
class Doors:
    """Per cloud process. A balancer opens further connections where one has `streams_per_connection`."""

    max_connections: int = 1024
    streams_per_connection: int = 100
    max_streams: int = 4096  # on all connections; further ones are refused at once
    handshake_s: float = 20.0  # for TLS and HTTP/2's first frame
    idle_s: float = 900.0  # a connection with no call on it is closed after this long

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise BadInput(f"{field.name} is {getattr(self, field.name)}, and it must be above 0")

    def grpc_options(self, limits: Limits) -> list[tuple[str, int]]:
        """A server's arguments."""
        replaced = {
            "grpc.max_receive_message_length": max_up_bytes(limits),
            "grpc.max_concurrent_streams": self.streams_per_connection,
            "grpc.max_allowed_incoming_connections": files_for(self.max_connections),
            "grpc.server_handshake_timeout_ms": int(self.handshake_s * 1000),
            "grpc.max_connection_idle_ms": int(self.idle_s * 1000),
            # Names and values of one call's headers: a token and a trace take a few hundred bytes.
            "grpc.max_metadata_size": 8 * KIB,
            "grpc.absolute_max_metadata_size": 16 * KIB,
        }
        return [*(option for option in grpc_options() if option[0] not in replaced), *replaced.items()]


def max_up_bytes(limits: Limits) -> int:
    """Of a message of an edge, which takes up to 80 times as much once it is decoded, whatever it says.

    1 MiB, unless the operator takes longer prompts.
    """
    needed = limits.max_inline_bytes + _UTF8_BYTES * limits.max_prompt_chars + _REST_OF_OPEN_BYTES
    return min(max(needed, limits.max_chunk_bytes + KIB, _LEAST_MESSAGE_BYTES), MAX_MESSAGE_BYTES)


def files_for(max_connections: int) -> int:
    """As many connections as the process may have files for, whose bound is raised where it may be.

    Without a free file nothing can be accepted, not even to refuse it.
    """
    if resource is None:
        return max_connections
    wanted = max_connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(1, min(max_connections, soft - _OTHER_FILES))
    return max_connections
