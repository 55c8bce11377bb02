"""The CRC-32 of a whole is zlib's, however it was put together."""

from __future__ import annotations

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from wire.crc import combine


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_of_two_parts_is_that_of_both(first: bytes, second: bytes) -> None:
    assert combine(crc32(first), crc32(second), len(second)) == crc32(first + second)


def test_of_large_parts_and_of_none() -> None:
    large = bytes(range(256)) * 4096
    assert combine(crc32(large), crc32(large), len(large)) == crc32(2 * large)
    assert combine(crc32(large), crc32(b""), 0) == crc32(large)
    assert combine(0, crc32(large), len(large)) == crc32(large)
