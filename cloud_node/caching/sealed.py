"""A value as a store keeps it: with a version, and a checksum over its name and itself. Pure.

What is damaged, of another version, foreign, or under another's name is nothing.
"""

from __future__ import annotations

from typing import Any, TypeVar
from zlib import crc32

import msgspec

from cloud_node.caching.cache_keys import FORMAT_VERSION

T = TypeVar("T")


class _Sealed(msgspec.Struct, array_like=True):
    version: int
    crc32: int
    body: memoryview


def seal(name: bytes, body: Any) -> bytes:
    data = msgspec.msgpack.encode(body)
    return msgspec.msgpack.encode(_Sealed(FORMAT_VERSION, _checksum(name, data), memoryview(data)))


def unseal(name: bytes, value: bytes, type_: type[T]) -> T | None:
    try:
        sealed = msgspec.msgpack.decode(value, type=_Sealed)
        if sealed.version != FORMAT_VERSION or sealed.crc32 != _checksum(name, sealed.body):
            return None
        return msgspec.msgpack.decode(sealed.body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _checksum(name: bytes, body: bytes | memoryview) -> int:
    return crc32(body, crc32(name))
