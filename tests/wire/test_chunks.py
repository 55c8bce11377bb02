"""Payloads in pieces."""

import tracemalloc
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.chunks import Assembler, split
from wire.errors import Corrupt, MalformedMessage, TooLarge


@given(payload=st.binary(max_size=300), max_bytes=st.integers(1, 64), data=st.data())
@settings(max_examples=60, deadline=None)
def test_split_and_assembled_is_the_payload_even_when_resumed(
    payload: bytes, max_bytes: int, data: st.DataObject
) -> None:
    assembler = Assembler(len(payload), limit=300)
    lost_after = data.draw(st.integers(0, 5))
    for piece in list(split(payload, max_bytes))[:lost_after]:
        assert len(piece.data) <= max_bytes
        assembler.add(*piece)
    for piece in split(memoryview(payload), max_bytes, start=assembler.received_bytes):
        assembler.add(*piece)
    assert assembler.is_complete
    assert assembler.received_bytes == assembler.total_bytes == len(payload)
    assert assembler.payload(crc32(payload)) == payload


def test_payload_is_read_only() -> None:
    assembler = Assembler(1, limit=1)
    assembler.add(0, b"x", crc32(b"x"))
    assert assembler.payload(crc32(b"x")).readonly


@pytest.mark.parametrize("total_bytes", [101, 2**63, -1])
def test_declared_size_over_the_limit(total_bytes: int) -> None:
    with pytest.raises(TooLarge, match="at most 100"):
        Assembler(total_bytes, limit=100)


@pytest.mark.parametrize(
    ("offset", "data", "error"),
    [
        (5, b"xx", MalformedMessage),  # a gap
        (3, b"xx", MalformedMessage),  # an overlap
        (0, b"xx", MalformedMessage),  # again
        (2**63, b"xx", MalformedMessage),
        (4, b"", MalformedMessage),
        (4, b"x" * 7, MalformedMessage),  # past the end
        (4, b"x" * 9, TooLarge),
    ],
)
def test_chunk_that_does_not_fit_is_refused_and_changes_nothing(
    offset: int, data: bytes, error: type[Exception]
) -> None:
    assembler = Assembler(10, limit=100, max_chunk_bytes=8)
    assembler.add(0, b"abcd", crc32(b"abcd"))
    with pytest.raises(error):
        assembler.add(offset, data, crc32(data))
    assert assembler.received_bytes == 4


def test_chunk_with_wrong_crc_is_corrupt_and_can_be_sent_again() -> None:
    assembler = Assembler(4, limit=4)
    with pytest.raises(Corrupt, match="byte 0"):
        assembler.add(0, b"abcd", crc32(b"abce"))
    assert assembler.add(0, b"abcd", crc32(b"abcd")) == 4


def test_truncated_payload_is_malformed() -> None:
    assembler = Assembler(4, limit=4)
    assembler.add(0, b"abc", crc32(b"abc"))
    with pytest.raises(MalformedMessage, match="ended at byte 3 of 4"):
        assembler.payload(crc32(b"abcd"))


def test_payload_with_wrong_crc_is_corrupt() -> None:
    assembler = Assembler(4, limit=4)
    assembler.add(0, b"abcd", crc32(b"abcd"))
    with pytest.raises(Corrupt, match="payload"):
        assembler.payload(crc32(b"abcx"))


def test_tiny_chunks_cost_no_more_than_they_hold() -> None:
    payload = bytes(range(256)) * 100
    tracemalloc.start()
    try:
        assembler = Assembler(len(payload), limit=len(payload))
        before, _ = tracemalloc.get_traced_memory()
        for piece in split(payload, max_bytes=2):
            assembler.add(*piece)
        assert tracemalloc.get_traced_memory()[0] - before < 2 * len(payload)
    finally:
        tracemalloc.stop()
    assert assembler.payload(crc32(payload)) == payload


@given(sizes=st.lists(st.sampled_from([1, 2, 4095, 4096, 20_000]), max_size=20))
@settings(max_examples=30, deadline=None)
def test_small_and_large_pieces_stay_in_order(sizes: list[int]) -> None:
    payload = bytes(index % 251 for index in range(sum(sizes)))
    assembler = Assembler(len(payload), limit=len(payload))
    for size in sizes:
        data = payload[assembler.received_bytes :][:size]
        assembler.add(assembler.received_bytes, data, crc32(data))
    assert assembler.payload(crc32(payload)) == payload
