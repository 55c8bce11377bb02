"""A message that was damaged on its way is never taken for another one."""

from __future__ import annotations

from zlib import crc32

import pytest

from wire.checked import decode_down, decode_up, encode
from wire.errors import Corrupt
from wire.v1 import inference_pb2 as pb

DATA = bytes(range(256)) * 8
CHUNK = pb.Up(chunk=pb.Chunk(request_id="r1", input_index=1, offset=4096, data=DATA, crc32=crc32(DATA)))
ITEM = pb.Input(
    split_point=2, codec_id="int8+zstd", image=pb.ImageSize(width=64, height=48), total_bytes=2, payload=b"ab"
)
OPEN = pb.Up(open=pb.Open(request_id="r1", text="what?", inputs=[ITEM], deadline_s=5.0))
DELTAS = pb.Down(
    deltas=pb.DeltaBatch(
        deltas=[pb.Delta(request_id="r1", text="a red circle ", token_index=3, num_tokens=2)]
    )
)


def flips(data: bytes) -> list[bytes]:
    """With each single bit flipped."""
    return [
        data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]


def said(message: pb.Up | pb.Down | Corrupt) -> pb.Up | pb.Down | Corrupt:
    """What anybody reads of it: where the checksum's own tag was damaged, it is a field that nobody knows."""
    if not isinstance(message, Corrupt):
        message.DiscardUnknownFields()
    return message


@pytest.mark.parametrize("up", [OPEN, pb.Up(ping=pb.Ping(nonce=7)), pb.Up(cancel=pb.Cancel(request_id="r1"))])
def test_no_single_bit_makes_another_message(up: pb.Up) -> None:
    data, expected = encode(up), pb.Up()
    expected.CopyFrom(up)
    assert decode_up(data) == expected
    num_refused = 0
    for damaged in flips(data):
        try:
            assert said(decode_up(damaged)) == expected
        except Corrupt:
            num_refused += 1
    assert num_refused >= 8 * (len(data) - 1)


def test_no_single_bit_makes_other_text() -> None:
    data = encode(DELTAS)
    assert decode_down(data) == DELTAS
    for damaged in flips(data):
        down = said(decode_down(damaged))
        assert isinstance(down, Corrupt) or down == DELTAS


def test_chunk_is_covered_but_for_its_data_which_has_a_checksum_of_its_own() -> None:
    data = encode(CHUNK)
    assert decode_up(data) == CHUNK
    for damaged in flips(data):
        try:
            chunk = decode_up(damaged).chunk
        except Corrupt:
            continue
        is_whole = crc32(chunk.data) == chunk.crc32
        assert not is_whole or said(pb.Up(chunk=chunk)) == CHUNK


def test_message_without_a_checksum_is_believed_as_older_peers_send_none() -> None:
    assert decode_up(OPEN.SerializeToString()) == OPEN
    assert decode_down(DELTAS.SerializeToString()) == DELTAS


@pytest.mark.parametrize("data", [b"\x7d", b"\x7d\0\0\0", b"\xff" * 5, b"}" * 10, b"\x7d\1\2\3\4"])
def test_short_and_wild_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt, match="damaged"):
        decode_up(data)
