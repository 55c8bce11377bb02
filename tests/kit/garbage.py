"""What is no gRPC: noise, other protocols, HTTP/2 that breaks its rules (RFC 9113); and messages full of nothing."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from cloud_node.access.doors import max_up_bytes
from tests.kit.clouds import limits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def frame(kind: int, flags: int, stream_id: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream_id) + body


GARBAGE: dict[str, bytes] = {
    "nothing but noise": random.Random(1).randbytes(5000),
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an endless HTTP/1 header": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "a frame of 16 MiB": PREFACE + SETTINGS + b"\xff\xff\xff\0\0\0\0\0\1" + bytes(100_000),
    "frames of no known kind": PREFACE + SETTINGS + frame(99, 255, 7, b"x" * 100) * 1000,
    "data on a stream that nobody opened": PREFACE + SETTINGS + frame(0, 0, 9, b"x" * 1000) * 50,
    "headers that are no HPACK": PREFACE + SETTINGS + frame(1, 4, 1, b"\xff" * 2000),
    "headers without an end": PREFACE
    + SETTINGS
    + frame(1, 0, 1, b"\x82") * 1
    + frame(9, 0, 1, b"\x82" * 100) * 500,
    "a thousand settings": PREFACE + SETTINGS + frame(4, 0, 0, struct.pack(">HI", 3, 5) * 100) * 1000,
    "a thousand pings": PREFACE + SETTINGS + frame(6, 0, 0, bytes(8)) * 1000,
    "windows that overflow": PREFACE + SETTINGS + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 10,
    "streams opened and reset": PREFACE
    + SETTINGS
    + b"".join(frame(1, 4, i, b"\x82\x86") + frame(3, 0, i, bytes(4)) for i in range(1, 2001, 2)),
}  # fmt: skip


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    head, size = b"", len(body)
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + body


def _full(nest: Callable[[bytes], bytes], empty: bytes) -> bytes:
    """An Up of the largest size that is taken, full of empty fields."""
    return field(2, nest(empty * ((max_up_bytes(limits()) - 64) // len(empty))))


FULL: dict[str, Callable[[], bytes]] = {
    "inputs": lambda: _full(lambda body: body, b"\x42\0"),
    "tensors": lambda: _full(lambda body: field(8, body), b"\x5a\0"),
    "dims": lambda: _full(lambda body: field(8, field(11, field(3, body))), b"\1"),
    "stop strings": lambda: _full(lambda body: field(6, body), b"\x4a\0"),
    "conversation": lambda: _full(lambda body: field(5, body), b"\x0a\0"),
    "unknown": lambda: _full(lambda body: body, b"\xf8\x07\1"),
}
