"""Requests that are wrong, of many kinds and without end: what a hostile or a broken peer sends to a real cloud."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import zstandard

from tests.kit.pictures import encoded, png_that_claims, textured
from tests.kit.talking import chunk, item_of
from wire.manifest import Chain
from wire.v1 import inference_pb2 as pb

LIMIT_S = 20.0
HELLO = pb.Up(hello=pb.Hello(protocol_version=1, edge_id="hostile")).SerializeToString()
ODD_TEXTS = ["", " ", "..", "\0", "x" * 70_000, "\n", "int8", "jpeg", "raw+zstd", "é" * 300]
ODD_NUMBERS = [0, 1, 2, 7, 255, 65_535, 65_536, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a right Open says, and the chain that it is about."""

    opening: pb.Open
    chain: Chain


class Hostile:
    """Sends wrong requests on one connection, one at a time; every one of them must come to an end."""

    def __init__(self, address: str, asked: Asked, seed: int) -> None:
        self._address = address
        self._asked = asked
        self._random = random.Random(seed)
        self._channel = grpc.insecure_channel(address)
        self._number = 0
        self.statuses: dict[str, int] = {}
        self._kinds: Sequence[Callable[[], object]] = (
            self._noise, self._flipped, self._flipped, self._odd_fields, self._odd_fields, self._odd_fields,
            self._odd_file, self._odd_payload, self._odd_chunks, self._no_hello, self._odd_fetch, self._left,
            self._garbage,
        )  # fmt: skip

    def send(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            self._random.choice(self._kinds)()

    def close(self) -> None:
        self._channel.close()

    def _noise(self) -> None:
        self._say([HELLO, self._random.randbytes(self._random.randrange(200))])

    def _flipped(self) -> None:
        """A right Open with some bytes changed; some of these are right still."""
        data = bytearray(self._open().SerializeToString())
        for _ in range(self._random.randrange(1, 6)):
            data[self._random.randrange(len(data))] = self._random.randrange(256)
        self._say([HELLO, self._up(bytes(data))])

    def _odd_fields(self) -> None:
        opening = self._open()
        for _ in range(self._random.randrange(1, 4)):
            self._spoil(
                self._random.choice(
                    [opening, opening.inputs[0], opening.inputs[0].tensors[0], opening.settings]
                )
            )
        self._say([HELLO, self._up(opening.SerializeToString())])

    def _spoil(self, message: Any) -> None:
        field = self._random.choice(message.DESCRIPTOR.fields)
        with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError):
            if field.message_type is not None:
                getattr(message, field.name).Clear() if not field.is_repeated else getattr(
                    message, field.name
                ).add()
            elif field.is_repeated:
                getattr(message, field.name).extend(
                    [self._random.choice(ODD_NUMBERS)] * self._random.randrange(20)
                )
            else:
                odd = ODD_TEXTS if self._random.random() < 0.4 else ODD_NUMBERS
                setattr(message, field.name, self._random.choice(odd))

    def _odd_file(self) -> None:
        """As a picture at split point 0: noise, a damaged file, or one that claims to be huge."""
        data = bytearray(encoded(textured(64, 48), self._random.choice(["JPEG", "WEBP", "AVIF"]), quality=20))
        for _ in range(self._random.randrange(1, 30)):
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        files = [bytes(data), self._random.randbytes(500), png_that_claims(60_000, 60_000)]
        opening = self._open()
        item = pb.Input(
            modality=pb.MODALITY_IMAGE, image=pb.ImageSize(width=64, height=48),
            codec_id=self._random.choice(["jpeg", "webp", "avif"]),
        )  # fmt: skip
        item.payload = self._random.choice(files)
        item.total_bytes, item.crc32 = len(item.payload), _crc(item.payload)
        opening.inputs[0].CopyFrom(item)
        self._say([HELLO, self._up(opening.SerializeToString())])

    def _odd_payload(self) -> None:
        """Coded tensors that are none: frames cut, of another size, or bombs."""
        opening, contents = self._open(), [bytes(1 << 20), b"", bytes(64), self._random.randbytes(300)]
        item = opening.inputs[0]
        frame = zstandard.ZstdCompressor().compress(self._random.choice(contents))
        item.codec_id, item.setting = self._random.choice(
            [("raw+zstd", ""), ("int8+zstd", "token"), ("int4", "token")]
        )
        item.payload = frame[: self._random.randrange(1, len(frame) + 1)]
        item.total_bytes, item.crc32 = len(item.payload), _crc(item.payload)
        for header in item.tensors:
            header.payload_bytes = 0
        item.tensors[0].payload_bytes = len(item.payload)
        self._say([HELLO, self._up(opening.SerializeToString())])

    def _odd_chunks(self) -> None:
        opening = self._open()
        opening.inputs[0].CopyFrom(item_of(self._asked.chain, is_inline=False))
        odd = [
            chunk(opening.request_id, self._random.choice(ODD_NUMBERS), bytes(self._random.randrange(2000))),
            chunk(opening.request_id, 0, bytes(100), crc32=7),
            chunk(opening.request_id, 0, b""),
            chunk(opening.request_id, 0, b"x", input_index=9),
            chunk("of nobody", 0, b"x"),
        ]
        pieces = [pb.Up(chunk=self._random.choice(odd)).SerializeToString() for _ in range(3)]
        cancel = pb.Up(cancel=pb.Cancel(request_id=opening.request_id)).SerializeToString()
        self._say([HELLO, self._up(opening.SerializeToString()), *pieces, cancel])

    def _no_hello(self) -> None:
        hellos = [
            pb.Up(),
            pb.Up(hello={}),
            pb.Up(ping={}),
            pb.Up(hello={"protocol_version": 1, "edge_id": "a\nb"}),
        ]
        self._say([self._random.choice(hellos).SerializeToString()])

    def _odd_fetch(self) -> None:
        path = self._random.choice(["../../etc/passwd", "manifest.json", "", "stages", "\0", "x" * 10_000])
        asked = pb.FetchBundleRequest(
            bundle_digest=self._random.choice([self._asked.opening.bundle_digest, "00" * 32, ""]),
            path=path,
            offset=self._random.choice(ODD_NUMBERS),
            length=self._random.choice(ODD_NUMBERS),
        )
        call = self._channel.unary_stream("/wire.v1.Inference/FetchBundle")
        self._end(lambda: call(asked.SerializeToString(), timeout=LIMIT_S))

    def _left(self) -> None:
        """Opens something, and is gone."""
        call = self._channel.stream_stream("/wire.v1.Inference/Stream")(
            iter([HELLO, self._up(self._open().SerializeToString())]), timeout=LIMIT_S
        )
        next(iter(call), None)
        call.cancel()

    def _garbage(self) -> None:
        host, _, port = self._address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1) as peer, contextlib.suppress(OSError):
            peer.sendall(self._random.randbytes(100))

    def _open(self) -> pb.Open:
        opening = pb.Open()
        opening.CopyFrom(self._asked.opening)
        opening.request_id = f"hostile-{self._number}"
        return opening

    @staticmethod
    def _up(opening: bytes) -> bytes:
        """An Up around an Open that may be none."""
        size, head = len(opening), b""
        while size > 127:
            head, size = head + bytes([size & 127 | 128]), size >> 7
        return b"\x12" + head + bytes([size]) + opening

    def _say(self, messages: Sequence[bytes]) -> None:
        call = self._channel.stream_stream("/wire.v1.Inference/Stream")
        self._end(lambda: call(iter(messages), timeout=LIMIT_S))

    def _end(self, begin: Callable[[], Iterator[bytes]]) -> None:
        """Hears all; a call that had to be ended by us is the cloud's fault."""
        status = "OK"
        try:
            for _ in begin():
                pass
        except grpc.RpcError as error:
            status = error.code().name  # type: ignore[attr-defined]
        assert status not in ("DEADLINE_EXCEEDED", "UNAVAILABLE", "UNKNOWN"), status
        self.statuses[status] = self.statuses.get(status, 0) + 1


def _crc(data: bytes) -> int:
    from zlib import crc32

    return crc32(data)
