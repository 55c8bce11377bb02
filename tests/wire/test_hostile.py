"""What a hostile or broken peer may send, by name. Nothing may be allocated by what it only declares."""

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zstandard

from wire.chunks import Assembler
from wire.codecs import Codec, all_codecs, check_payload_sizes, decode, parse_codec
from wire.errors import Corrupt, MalformedMessage, TooLarge
from wire.limits import MAX_REQUEST_BYTES
from wire.tensors import DType, TensorSpec, check_headers, make_headers
from wire.v1 import inference_pb2 as pb

KIB, MIB = 1024, 1024 * 1024
SMALL = TensorSpec("x", DType.FLOAT32, (16, 16))
LARGE = TensorSpec("x", DType.FLOAT32, (2048, 512))  # 4 MiB


def peak_bytes(function: Callable[[], Any]) -> int:
    """The most memory that Python and numpy held at once during the call."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def decode_one(codec: Codec | str, payload: bytes, spec: TensorSpec = SMALL) -> Any:
    codec = parse_codec(codec) if isinstance(codec, str) else codec
    return decode(codec, memoryview(payload), [len(payload)], [spec])[0]


def zstd_frame(content: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(content)


def test_zip_bomb_is_refused_before_it_is_decompressed() -> None:
    bomb = zstd_frame(bytes(256 * MIB))
    assert len(bomb) < 64 * KIB
    codec = parse_codec("raw+zstd")

    def attack() -> None:
        with pytest.raises(MalformedMessage, match="declares 268435456 bytes"):
            codec.decode_tensor(memoryview(bomb), SMALL)

    assert peak_bytes(attack) < 256 * KIB


def test_frame_that_holds_more_than_it_declares_is_corrupt() -> None:
    frame = bytearray(zstd_frame(bytes(64 * KIB)))
    honest = zstandard.get_frame_parameters(bytes(frame)).content_size
    assert honest == 64 * KIB
    position = bytes(frame).index((honest - 256).to_bytes(2, "little"), 4)  # the 2-byte field counts from 256
    frame[position : position + 2] = (SMALL.num_bytes - 256).to_bytes(2, "little")
    assert zstandard.get_frame_parameters(bytes(frame)).content_size == SMALL.num_bytes

    def attack() -> None:
        with pytest.raises(Corrupt):
            parse_codec("raw+zstd").decode_tensor(memoryview(frame), SMALL)

    assert peak_bytes(attack) < 32 * KIB


def test_frame_without_content_size_is_refused() -> None:
    frame = zstd_frame(bytes(SMALL.num_bytes), write_content_size=False)
    with pytest.raises(MalformedMessage, match="declares no bytes"):
        decode_one("raw+zstd", frame)


@pytest.mark.parametrize("tail", [b"\0", b"tail", zstd_frame(b""), zstd_frame(bytes(1024))])
def test_bytes_after_the_frame_are_refused(tail: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_one("raw+zstd", zstd_frame(bytes(SMALL.num_bytes)) + tail)


def test_frame_with_a_dictionary_is_refused() -> None:
    samples = [bytes([i % 7, i % 5, i % 3] * 40) for i in range(400)]
    dictionary = zstandard.train_dictionary(4096, samples)
    with pytest.raises(MalformedMessage, match="no dictionary"):
        decode_one("raw+zstd", zstd_frame(bytes(SMALL.num_bytes), dict_data=dictionary))


@pytest.mark.parametrize("garbage", [b"", b"\0", b"not a zstd frame", b"\x50\x2a\x4d\x18\x04\0\0\0abcd"])
def test_garbage_instead_of_a_frame(garbage: bytes) -> None:
    with pytest.raises((MalformedMessage, Corrupt)):
        decode_one("raw+zstd", garbage)


def test_bytes_for_an_empty_tensor_are_refused() -> None:
    empty = TensorSpec("x", DType.FLOAT32, (0, 4))
    with pytest.raises(MalformedMessage):
        parse_codec("raw+zstd").decode_tensor(memoryview(zstd_frame(b"")), empty)


@pytest.mark.parametrize("codec", all_codecs(), ids=str)
def test_truncated_and_extended_payloads_are_refused(codec: Codec) -> None:
    payload = codec.encode_tensor(np.random.default_rng(0).standard_normal(SMALL.shape).astype(np.float32))
    for cut in (0, 1, len(payload) // 2, len(payload) - 1):
        with pytest.raises((MalformedMessage, Corrupt)):
            decode_one(codec, payload[:cut])
    with pytest.raises((MalformedMessage, Corrupt)):
        decode_one(codec, payload + b"\0")


@pytest.mark.parametrize("codec", all_codecs(), ids=str)
def test_flipped_bytes_never_raise_anything_but_ours(codec: Codec) -> None:
    generator = np.random.default_rng(1)
    payload = codec.encode_tensor(generator.standard_normal(SMALL.shape).astype(np.float32))
    for position in generator.integers(0, len(payload), 200):
        damaged = bytearray(payload)
        damaged[position] ^= 1 << int(generator.integers(8))
        with contextlib.suppress(MalformedMessage, Corrupt):
            assert decode_one(codec, bytes(damaged)).shape == SMALL.shape


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 3e38])
def test_int8_scale_out_of_range_is_malformed(scale: float) -> None:
    payload = bytearray(parse_codec("int8").encode_tensor(np.ones(SMALL.shape, np.float32)))
    payload[:4] = np.float32(scale).tobytes()
    with pytest.raises(MalformedMessage, match="int8 scale"):
        decode_one("int8", bytes(payload))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, -0.001, 4.9e37])
@pytest.mark.parametrize("setting", ["group32", "token", "channel"])
def test_int4_scale_out_of_range_is_malformed(setting: str, scale: float) -> None:
    codec = parse_codec(f"int4:{setting}")
    payload = bytearray(codec.encode_tensor(np.ones(SMALL.shape, np.float32)))
    payload[:2] = np.float32(scale).tobytes()[2:]
    with pytest.raises(MalformedMessage, match="int4 scale"):
        decode_one(codec, bytes(payload))


def test_int4_largest_scale_that_is_taken_is_the_largest_that_is_sent() -> None:
    spec = TensorSpec("x", DType.FLOAT32, (2,))
    codec = parse_codec("int4")
    payload = codec.encode_tensor(np.array([3.4028235e38, -3.4028235e38], np.float32))
    assert np.isfinite(decode_one(codec, payload, spec)).all()
    scale = int.from_bytes(payload[:2], "little") + 1
    with pytest.raises(MalformedMessage, match="int4 scale"):
        decode_one(codec, scale.to_bytes(2, "little") + payload[2:], spec)


def test_int4_number_after_an_odd_count_is_malformed() -> None:
    spec = TensorSpec("x", DType.FLOAT32, (3,))
    payload = parse_codec("int4").encode_tensor(np.ones(3, np.float32))
    with pytest.raises(MalformedMessage, match="3 int4 numbers, and more"):
        decode_one("int4", payload[:-1] + bytes([payload[-1] | 0x10]), spec)


def test_bool_byte_above_one_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="byte above 1"):
        decode_one("raw", b"\x02", TensorSpec("mask", DType.BOOL, (1,)))


@pytest.mark.parametrize("codec", all_codecs(), ids=str)
def test_declared_payload_above_what_the_codec_makes_is_refused(codec: Codec) -> None:
    limit = codec.max_payload_bytes(SMALL)
    assert check_payload_sizes(codec, [limit], [SMALL]) == limit
    for size in (limit + 1, 2**63, -1):
        with pytest.raises(MalformedMessage, match="declares a payload"):
            check_payload_sizes(codec, [size], [SMALL])


def test_payload_sizes_must_add_up() -> None:
    raw = parse_codec("raw")
    with pytest.raises(MalformedMessage, match="add up to 2048"):
        decode(raw, memoryview(bytes(1024)), [1024, 1024], [SMALL, SMALL])
    with pytest.raises(MalformedMessage, match="payload sizes"):
        decode(raw, memoryview(bytes(1024)), [1024], [SMALL, SMALL])


@pytest.mark.parametrize("codec", all_codecs(), ids=str)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT64])
def test_decoding_takes_at_most_16_bytes_per_number_of_the_boundary(codec: Codec, dtype: DType) -> None:
    """A message of 1.5 KB holds a boundary full of zeros: what it costs is bounded by the boundary alone."""
    spec = TensorSpec("x", dtype, (1024, 512))
    payload = codec.encode_tensor(np.zeros(spec.shape, dtype.numpy))
    message = pb.Input(
        codec_id=codec.codec_id,
        setting=codec.setting,
        tensors=make_headers([spec], [len(payload)]),
        total_bytes=len(payload),
        payload=payload,
    )
    received = message.SerializeToString()
    if codec.codec_id.endswith("+zstd"):
        assert len(received) < 1500

    def receive() -> None:
        parsed = pb.Input.FromString(received)
        sizes = check_headers(parsed.tensors, [spec])
        decode(codec, memoryview(parsed.payload), sizes, [spec])

    assert peak_bytes(receive) <= 16 * spec.num_elements + len(payload) + 64 * KIB


def test_message_that_declares_much_and_sends_nothing_costs_nothing() -> None:
    def receive() -> None:
        assembler = Assembler(MAX_REQUEST_BYTES, limit=MAX_REQUEST_BYTES)
        assembler.add(0, b"x", 0x8CDC1683)

    assert peak_bytes(receive) < 4 * KIB


def test_header_of_another_shape_allocates_nothing() -> None:
    header = pb.TensorHeader(name="x", dtype=pb.DTYPE_FLOAT32, dims=[2**30, 2**30], payload_bytes=2**62)

    def receive() -> None:
        with pytest.raises(TooLarge):
            check_headers([header], [LARGE])

    assert peak_bytes(receive) < 64 * KIB
