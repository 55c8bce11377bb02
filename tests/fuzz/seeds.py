"""Seeds for the fuzzer, made from golden bytes and right messages: `python -m tests.fuzz.seeds` writes them.

Each gets the name of its content, so that a seed which is there already is not written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import msgspec
import numpy as np

from cloud_node.asked.sequence import FinishReason
from cloud_node.caching.cache import Answer
from cloud_node.caching.held_arms import Features, Held
from tests.fuzz.framing import framed
from tests.fuzz.served import BOUNDS, SIGNATURE, TOKEN, all_served, manifest_of, recipes, served_of
from tests.golden.wire.make import CODECS, HERE, MESSAGES
from tests.kit.pictures import encoded, textured
from tests.kit.sounds import made_sound, sound_file
from tests.kit.talking import chunk, item_of, opening
from tests.wire.samples import CONTENTS, PREPROCESSING, make_manifest
from wire.chunks import split
from wire.codecs import all_codecs, find_codec
from wire.manifest import dump_manifest
from wire.signature import Signature, dump_signatures, key_id
from wire.sizes import SoundSize, TextSize, size_to_wire
from wire.v1 import inference_pb2 as pb

CORPUS = Path(__file__).resolve().parent / "corpus"

Seed = tuple[str, bytes]


def seeds() -> Iterator[Seed]:
    """Target and input."""
    yield from _payloads()
    yield from _media()
    yield from _uploads()
    yield from _opens()
    yield from _cached()
    yield from _golden()
    yield from _downs()
    yield from _bundles()
    yield from _callers()


def _payloads() -> Iterator[Seed]:
    codecs = all_codecs()
    for path in sorted(CODECS.glob("*.json")):
        case = json.loads(path.read_text("utf-8"))
        number = codecs.index(find_codec(case["codec_id"], case["setting"]))
        yield "payload", bytes([number, 0, 0]) + bytes.fromhex(case["payload_hex"])
    values = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    large = np.zeros((512, 512), np.float32)
    for number, codec in enumerate(codecs):
        yield "payload", bytes([number, 0, 0]) + codec.encode_tensor(values)
        if codec.codec_id.endswith("+zstd"):
            yield "payload", bytes([number, 5, 0]) + codec.encode_tensor(large)


def _media() -> Iterator[Seed]:
    picture = textured(24, 16)
    for number, kind in enumerate(("JPEG", "WEBP", "AVIF")):
        yield "pictures", bytes([number]) + encoded(picture, kind, quality=40)
    yield "pictures", b"\0" + encoded(picture.convert("L"), "JPEG", progressive=True, quality=10)
    yield "pictures", b"\1" + encoded(picture, "WEBP", lossless=True)
    sound = made_sound("tone", 400)
    yield "sounds", b"\0" + sound_file(sound, 16_000, "FLAC", "PCM_16")
    yield "sounds", b"\1" + sound_file(sound, 16_000, "OGG", "OPUS")


def _uploads() -> Iterator[Seed]:
    payload = bytes(range(130))
    pieces = b"".join(
        bytes([1, 0, 0, len(piece.data)]) + piece.data for piece in split(payload, max_bytes=64)
    )
    yield "chunks", len(payload).to_bytes(4, "little") + pieces
    served = served_of("generator")
    chain = served.manifest.chains[0]
    data = bytes(item_of(chain).total_bytes)
    asked = opening(served, "What is this?", is_inline=False)
    messages = [
        pb.Up(hello=pb.Hello(protocol_version=1)),
        pb.Up(open=asked),
        *(pb.Up(chunk=chunk("r1", piece.offset, piece.data)) for piece in split(data, 300)),
        pb.Up(cancel=pb.Cancel(request_id="r1")),
    ]
    yield "up", framed(message.SerializeToString() for message in messages)


def _opens() -> Iterator[Seed]:
    for number, served in enumerate(all_served()):
        chains = served.manifest.chains
        sound = item_of(chains[3])
        size_to_wire(sound, SoundSize(16_000, 16_000))
        text = item_of(chains[4])
        size_to_wire(text, TextSize(3))
        listed = item_of(chains[1])
        listed.image.width, listed.image.height = 640, 480
        media = pb.Input(
            modality=pb.MODALITY_IMAGE,
            image=pb.ImageSize(width=64, height=48),
            codec_id="jpeg",
            total_bytes=9,
        )
        for item in (item_of(chains[0]), listed, item_of(chains[2], num_tiles=3), sound, text, media):
            asked = opening(served, "What?" if number == 0 else "", inputs=[item])
            if number == 2:
                asked.embed.search.index, asked.embed.search.num_hits = "i", 3
            asked.settings.MergeFrom(pb.GenerationSettings(temperature=0.5, top_p=0.9, seed=7, stop=["x"]))
            yield "open", bytes([number]) + asked.SerializeToString()
            yield "headers", item.SerializeToString()


def _cached() -> Iterator[Seed]:
    bodies = (
        [Held("32x32", 0, 1, "raw", b"f" * 32), Held("tiles", 3, 2, "int8:token+zstd", b"g" * 32)],
        Features((3, 4), memoryview(b"abcdefg")),
        Answer("yes", 1, 9, FinishReason.STOP_TOKEN),
    )
    for number, body in enumerate(bodies):
        kind = next(one for one in range(128, 256) if one % 3 == number)
        yield "cached", bytes([kind]) + msgspec.msgpack.encode(body)


def _golden() -> Iterator[Seed]:
    for path in sorted(MESSAGES.glob("*.binpb")):
        data, name = path.read_bytes(), path.name.split(".")[0]
        match name:
            case "Failed":
                yield "failed", data
            case "DescribeReply":
                yield "describe", data
            case "Open":
                yield "open", b"\0" + data
            case "Down":
                yield "down", framed([data])
            case "BundlePart":
                yield "parts", b"\0" + framed([data])
            case "Input":
                yield "headers", data
    for path in sorted(HERE.glob("manifest.*.json")):
        yield "manifest", path.read_bytes()
    ours = key_id(bytes(range(32)))
    yield "signature", dump_signatures([Signature(ours, bytes(64)), Signature("0" * 16, bytes(range(64)))])


def _downs() -> Iterator[Seed]:
    welcome = pb.Down(welcome=pb.Welcome(protocol_version=1, limits=BOUNDS.limits.to_wire()))
    heard = [
        pb.Down(need=pb.Need(request_id="r1", input_index=0)),
        pb.Down(ack=pb.Ack(request_id="r1", received_bytes=3000)),
        pb.Down(have=pb.Have(request_id="r1", what=pb.Have.WHAT_FEATURES, input_index=1)),
        pb.Down(deltas=pb.DeltaBatch(deltas=[pb.Delta(request_id="r1", text="yes", num_tokens=1)])),
        pb.Down(embedded=pb.Embedded(request_id="r1", vectors=[pb.Vector(float32=bytes(16))])),
        pb.Down(load=pb.Load(queued=1)),
        pb.Down(pong=pb.Pong(nonce=1)),
        pb.Down(go_away=pb.GoAway(reason="closing", drain_s=1)),
    ]
    done = pb.Down(done=pb.Done(request_id="r1", finish_reason=pb.FINISH_REASON_LENGTH, generated_tokens=1))
    failed = pb.Down(failed=pb.Failed(request_id="r1", code=pb.ERROR_CODE_OVERLOADED, retry_after_s=1))
    for end in (done, failed):
        yield "down", framed(message.SerializeToString() for message in (welcome, *heard, end))
    for one in heard:
        yield "down", framed(message.SerializeToString() for message in (welcome, one, done))


def _bundles() -> Iterator[Seed]:
    from cloud_node.streams.messages import describe_reply

    reply = describe_reply([served_of("generator")], BOUNDS, "0.1.0")
    yield "describe", reply.SerializeToString()
    small = dump_manifest(make_manifest())
    yield "manifest", msgspec.json.encode(msgspec.json.decode(small))
    yield "manifest", msgspec.json.encode(manifest_of("dual encoder"))
    for first, content in ((1, CONTENTS["stages/image/000.onnx"]), (0, small)):
        parts = [
            pb.BundlePart(
                path="p", offset=start, total_bytes=len(content), data=content[start : start + 1000]
            )
            for start in range(0, len(content), 1000)
        ]
        yield "parts", bytes([first]) + framed(part.SerializeToString() for part in parts)
    yield "recipe", msgspec.json.encode(PREPROCESSING)
    for number, recipe in enumerate(recipes()):
        yield "recipe", msgspec.json.encode(recipe)
        yield "edited_recipe", bytes([number])
    yield "edited_manifest", b"\1"
    yield "tokenizer", _tokenizer()


def _callers() -> Iterator[Seed]:
    header = [b"authorization", f"Bearer {TOKEN}".encode()]
    yield "caller", framed(header)
    yield "caller", framed([b"user-agent", b"x", *header])
    yield "caller", framed([b"", b"garden", b"shed.example"])
    yield "signature", SIGNATURE


def _tokenizer() -> bytes:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(BPE({"a": 0, "b": 1, "ab": 2, "[UNK]": 3}, [("a", "b")], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    return tokenizer.to_str().encode()


def written(folder: Path, target: str, data: bytes) -> Path:
    """The file of an input, by its content's name."""
    path = folder / target / sha1(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    for target, data in seeds():
        written(CORPUS, target, data)
