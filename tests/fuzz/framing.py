"""Several messages in one run of bytes: each after its length, two bytes, the lower one first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def frames(data: bytes) -> Iterator[bytes]:
    """The last one may be cut."""
    start = 0
    while start + 2 <= len(data):
        stop = start + 2 + int.from_bytes(data[start : start + 2], "little")
        yield data[start + 2 : stop]
        start = stop


def framed(messages: Iterable[bytes]) -> bytes:
    return b"".join(len(message).to_bytes(2, "little") + message for message in messages)
