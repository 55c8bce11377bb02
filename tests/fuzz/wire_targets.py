"""Targets that both sides have: tensors, payloads, pictures, sounds, manifests, errors."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any, cast

from tests.fuzz.target import MIB, Run, Target
from wire.errors import CleaveError, Denied


def _payload() -> Run:
    """The first byte names the codec, the second the boundary; the rest is the payload, and its sizes' split."""
    from wire.codecs import all_codecs, decode
    from wire.tensors import DType, TensorSpec

    specs = [
        [TensorSpec("x", DType.FLOAT32, (4, 16))],
        [TensorSpec("x", DType.FLOAT16, (3, 5)), TensorSpec("mask", DType.BOOL, (7,))],
        [TensorSpec("x", DType.BFLOAT16, (2, 33))],
        [TensorSpec("ids", DType.INT64, (2, 3)), TensorSpec("none", DType.FLOAT32, (0, 4))],
        [TensorSpec("scalar", DType.FLOAT32, ())],
        [TensorSpec("large", DType.FLOAT32, (512, 512))],
    ]
    codecs = all_codecs()

    def run(data: bytes) -> None:
        if len(data) < 3:
            return
        codec, boundary = codecs[data[0] % len(codecs)], specs[data[1] % len(specs)]
        payload = memoryview(data)[3:]
        first = len(payload) if len(boundary) == 1 else min(len(payload), data[2])
        sizes = [first, len(payload) - first][: len(boundary)]
        for array, spec in zip(decode(codec, payload, sizes, boundary), boundary, strict=True):
            assert array.shape == spec.shape
            assert array.dtype == spec.dtype.numpy

    return run


def _chunks() -> Run:
    """A total, and then pieces: kind, offset, length, data."""
    from zlib import crc32

    from wire.chunks import Assembler
    from wire.errors import CleaveError

    limit = 1024

    def run(data: bytes) -> None:
        if len(data) < 4:
            return
        assembler, rest = Assembler(struct.unpack_from("<i", data)[0], limit, max_chunk_bytes=64), data[4:]
        received, taken = 0, b""
        while len(rest) >= 4:
            kind, offset, length = rest[0], int.from_bytes(rest[1:3], "little"), rest[3]
            piece, rest = rest[4 : 4 + length], rest[4 + length :]
            at = assembler.received_bytes if kind & 1 else offset
            try:
                received = assembler.add(at, piece, crc32(piece) ^ (kind & 2))
                taken += piece
            except CleaveError:
                assert assembler.received_bytes == received, "a piece that was refused changed something"
        assert received == len(taken) <= limit
        assert assembler.payload(crc32(taken)) == taken

    return run


def _pictures() -> Run:
    from wire.media.registry import find_media_codec

    codecs = [find_media_codec(name) for name in ("jpeg", "webp", "avif")]

    def run(data: bytes) -> None:
        if data:
            decoded = cast(Any, codecs[data[0] % len(codecs)].decode(data[1:]))
            assert decoded.mode == "RGB"

    return run


def _sounds() -> Run:
    from wire.media.registry import find_media_codec
    from wire.media.sounds import to_mono

    codecs = [find_media_codec(name) for name in ("flac", "opus")]

    def run(data: bytes) -> None:
        if data:
            to_mono(cast(Any, codecs[data[0] % len(codecs)].decode(data[1:])), 16_000)

    return run


def _manifest() -> Run:
    """What can be read can be written and read again, and every path of it stays inside."""
    from wire.bundle_files import safe_path
    from wire.manifest import dump_manifest, load_manifest

    def run(data: bytes) -> None:
        manifest = load_manifest(data)
        for entry in manifest.files:
            safe_path(entry.path)
        assert load_manifest(dump_manifest(manifest)) == manifest
        for chain in manifest.chains:
            for point in chain.split_points:
                chain.boundary(point.index, 2)

    return run


def _edited_manifest() -> Run:
    """Edits of a right manifest; where the first byte is odd, its sums and digests are made to fit them again."""
    import msgspec

    from tests.fuzz.edits import edited
    from tests.fuzz.served import manifest_of

    base = msgspec.to_builtins(manifest_of("generator"))
    read = _manifest()

    def run(data: bytes) -> None:
        if not data:
            return
        changed = edited(base, data[1:])
        if data[0] & 1:
            _make_fit(changed)
        read(msgspec.json.encode(changed))

    return run


def _signature() -> Run:
    """A manifest.sig is read, written and read again; and no change of it is signed by a key that did not sign it."""
    from edge_node.trust import BundleTrust, Offered, PublicKey, decide
    from wire.signature import dump_signatures, load_signatures

    trust = BundleTrust(keys=(PublicKey(bytes(range(32))),))

    def run(data: bytes) -> None:
        signatures = load_signatures(data)
        assert load_signatures(dump_signatures(signatures)) == signatures
        try:
            decide(trust, Offered("c:1", "tiny", "ab" * 32), [], data)
        except Denied:
            return
        raise AssertionError("a signature holds that nobody made")

    return run


def _make_fit(manifest: Any) -> None:
    """Whatever cannot be made to fit stays as it is."""
    import msgspec

    from wire.chain_entries import Preprocessing, SplitPoint

    chains = manifest.get("chains")
    for chain in chains if isinstance(chains, list) else ():
        try:
            recipe = msgspec.convert(chain["preprocessing"], Preprocessing)
            chain["preprocessing_digest"] = recipe.digest()
            for point in chain["split_points"]:
                specs = msgspec.convert({**point, "raw_bytes": 0}, SplitPoint).specs()
                point["raw_bytes"] = sum(spec.num_bytes for spec in specs)
            chain["input_shape"]["tensors"] = chain["split_points"][0]["tensors"]
        except (CleaveError, msgspec.ValidationError, KeyError, TypeError, IndexError, AttributeError):
            continue


def _failed() -> Run:
    """A Failed message, a trailer that holds one, and what a person is shown of it: one line."""
    from google.protobuf.message import DecodeError

    from wire.errors import TRAILER_KEY, from_failed, from_rpc_error
    from wire.v1 import inference_pb2 as pb

    class Ended(Exception):
        def __init__(self, value: bytes) -> None:
            self._value = value

        def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
            return ((TRAILER_KEY, self._value),)

    def run(data: bytes) -> None:
        ended = from_rpc_error(cast(Any, Ended(data)), "host:1")
        try:
            told: list[CleaveError] = [ended, from_failed(pb.Failed.FromString(data))]
        except DecodeError:
            told = [ended]
        for error in told:
            assert len(str(error)) <= 2000
            assert str(error).isprintable(), "a peer's sentence can move a terminal's cursor"

    return run


def _headers() -> Run:
    """An Input's headers against a boundary, and headers that make a boundary of their own."""
    from google.protobuf.message import DecodeError

    from wire.codecs import check_payload_sizes, parse_codec
    from wire.tensors import TensorSpec, check_headers
    from wire.v1 import inference_pb2 as pb

    def run(data: bytes) -> None:
        try:
            headers = pb.Input.FromString(data).tensors
        except DecodeError:
            return
        specs = [TensorSpec.from_wire(header) for header in headers[:64]]
        sizes = check_headers(headers, specs)
        check_payload_sizes(parse_codec("raw+zstd"), sizes, specs)
        for one, other in pairwise(specs):
            check_headers(headers[:1], [other if other != one else one])

    return run


WIRE_TARGETS = {
    "payload": Target("a coded tensor, by every codec", _payload, memory_bytes=16 * MIB),
    "chunks": Target("the pieces of a payload", _chunks, max_input_bytes=1024, memory_bytes=16 * MIB),
    "pictures": Target("a JPEG, WebP or AVIF", _pictures, memory_bytes=1536 * MIB, seconds=20),
    "sounds": Target("a FLAC or Opus file", _sounds, memory_bytes=1536 * MIB, seconds=20),
    "manifest": Target("a bundle's manifest.json", _manifest, max_input_bytes=8192),
    "edited_manifest": Target("a manifest.json that is nearly right", _edited_manifest, max_input_bytes=31),
    "signature": Target("a bundle's manifest.sig", _signature, max_input_bytes=4096),
    "failed": Target("a Failed, also in a trailer", _failed),
    "headers": Target("an Input's tensor headers", _headers),
}
