"""How much strangers can make gRPC hold before any of our own code hears of them: connections, messages, headers."""

from __future__ import annotations

import contextlib
import logging

from google.protobuf.message import DecodeError

from wire.limits import KIB, MAX_MESSAGE_BYTES, MIB, Limits, server_options

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


def door_options(limits: Limits, max_connections: int) -> list[tuple[str, int]]:
    """A server's arguments: those that all servers have, and these bounds."""
    options = dict(server_options())
    options["grpc.max_receive_message_length"] = max_up_bytes(limits)
    options["grpc.max_allowed_incoming_connections"] = files_for(max_connections)
    # Names and values of one call's headers: a token and a trace take a few hundred bytes.
    options["grpc.max_metadata_size"] = 8 * KIB
    options["grpc.absolute_max_metadata_size"] = 16 * KIB
    return list(options.items())


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


def say_nothing_of_garbage() -> None:
    """gRPC writes a page into the log for every unary call whose message is none: ten bytes of a stranger's."""
    log = logging.getLogger("grpc._cython.cygrpc")
    if _is_worth_a_line not in log.filters:
        log.addFilter(_is_worth_a_line)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], DecodeError))
