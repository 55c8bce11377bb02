"""What an edge decodes: whatever a cloud says on the stream and beside it, and the bundles that it serves."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from tests.fuzz.framing import frames
from tests.fuzz.target import MIB, Run, Target
from wire.errors import CleaveError


def _down() -> Run:
    """What comes down a stream while one request is open: Welcome first, if the cloud is honest."""
    import grpc

    from edge_node.answer import texts_of
    from edge_node.asking import Sent
    from edge_node.link import CloudLink
    from edge_node.patience import Patience
    from edge_node.report import AnswerReport
    from edge_node.retrieval import hits_of, vector_of
    from edge_node.stream import CloudStream
    from wire.checked import decode_down
    from wire.errors import Corrupt, Unavailable
    from wire.v1 import inference_pb2 as pb

    class Call:
        def __init__(self, messages: list[pb.Down | Corrupt]) -> None:
            self._messages = iter(messages)
            self.sent_bytes = 0

        async def read(self) -> Any:
            await asyncio.sleep(0)
            return next(self._messages, grpc.aio.EOF)

        async def write(self, up: pb.Up) -> None:
            self.sent_bytes += up.ByteSize()

        async def done_writing(self) -> None: ...

        def cancel(self) -> None: ...

    class OneStream(CloudLink):
        """Of a cloud that is gone after its first stream."""

        async def connected(self) -> CloudStream:
            if self._stream is None or self._stream.is_lost:
                raise Unavailable("the cloud is gone")
            return self._stream

    async def make() -> CloudLink:
        return OneStream("127.0.0.1:1")

    async def ask(messages: list[pb.Down | Corrupt]) -> None:
        call = Call(messages)
        stream = await CloudStream.open(cast(Any, _Stub(call)), link.address, 1.0, "edge", ())
        link._stream = stream
        try:
            opening = pb.Open(request_id="r1", inputs=[pb.Input(), pb.Input()])
            payloads = [bytes(3000), bytes(100)]
            report = AnswerReport("?")
            asked = link.ask(opening, payloads, Sent(), hash_first=True, patience=Patience(0.0))
            async with aclosing(asked) as downs:
                kept = Kept(downs)
                async with aclosing(texts_of(kept.pass_on(), [3000, 100], report, 0.0)) as texts:
                    async for _ in texts:
                        pass
            report.to_dict()
            for embedded in kept.embedded:
                hits_of(embedded)
                try:
                    vector_of(embedded)
                except CleaveError:
                    continue
        finally:
            await stream.close()
        assert call.sent_bytes < 64 * 1024, "the cloud had the payloads sent again and again"

    class Kept:
        def __init__(self, downs: AsyncGenerator[pb.Down, None]) -> None:
            self._downs = downs
            self.embedded: list[pb.Embedded] = []

        async def pass_on(self) -> AsyncGenerator[pb.Down, None]:
            async for down in self._downs:
                if down.HasField("embedded"):
                    self.embedded.append(down.embedded)
                yield down

    loop = asyncio.new_event_loop()
    link = loop.run_until_complete(make())

    def run(data: bytes) -> None:
        loop.run_until_complete(asyncio.wait_for(ask([decode_down(frame) for frame in frames(data)]), 5))

    return run


class _Stub:
    def __init__(self, call: Any) -> None:
        self._call = call

    def Stream(self, **_: object) -> Any:
        return self._call


def _parts() -> Run:
    """The parts of a manifest and of a stage; the first byte says how much of a stage is there already."""
    from google.protobuf.message import DecodeError

    from edge_node.bundle_store import BundleStore
    from tests.wire.samples import CONTENTS, make_manifest
    from wire.manifest import bundle_digest, dump_manifest
    from wire.v1 import inference_pb2 as pb

    stage = "stages/image/000.onnx"
    manifest = dump_manifest(make_manifest())
    digest = bundle_digest(manifest)
    base = Path(tempfile.mkdtemp(prefix="cleave-fuzz-"))

    async def receive(is_manifest: bool, parts: list[pb.BundlePart]) -> None:
        async def fetch(_: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
            for part in parts:
                yield part

        store = BundleStore(base, lambda path, done, total: None)
        if not is_manifest:
            (base / digest).mkdir(exist_ok=True)
            (base / digest / "manifest.json").write_bytes(manifest)
        bundle = await store.open(digest, fetch)
        assert not is_manifest or (bundle.folder / "manifest.json").read_bytes() == manifest
        if not is_manifest:
            await store.need(bundle, [stage], fetch)
            assert (bundle.folder / stage).read_bytes() == CONTENTS[stage]

    loop = asyncio.new_event_loop()

    def run(data: bytes) -> None:
        if not data:
            return
        try:
            parts = [pb.BundlePart.FromString(frame) for frame in frames(data[1:])]
        except DecodeError:
            return
        try:
            loop.run_until_complete(receive(data[0] % 2 == 0, parts))
        finally:
            shutil.rmtree(base / digest, ignore_errors=True)
            if data[0] & 2:
                shutil.rmtree(base / "partial", ignore_errors=True)

    return run


def _describe() -> Run:
    """A DescribeReply, against the bundle that the edge holds, and every arm that it could then take."""
    from google.protobuf.message import DecodeError

    from edge_node.arms import Wish, choose_arm
    from edge_node.given import GivenPicture
    from edge_node.models import Models
    from edge_node.trust import BundleTrust
    from tests.fuzz.served import DIGEST, manifest_of
    from tests.kit.pictures import encoded, textured
    from wire.v1 import inference_pb2 as pb

    manifest = manifest_of("generator")
    picture = encoded(textured(640, 480), "JPEG", quality=1)

    class Store:
        folder = Path("/none")

        async def open(self, digest: str, fetch: object) -> Any:
            from edge_node.bundle_store import StoredBundle

            return StoredBundle(Path("/none"), DIGEST, manifest)

    class Cloud:
        address, fetch = "host:1", None

        def __init__(self, reply: pb.DescribeReply) -> None:
            self._reply = reply

        async def describe(self, *, is_patient: bool) -> pb.DescribeReply:
            return self._reply

    async def use(reply: pb.DescribeReply) -> None:
        models = Models(cast(Any, Store()), trust=BundleTrust(pins=False))
        served = await models.get(None, cast(Any, Cloud(reply)))
        assert served.model.name.isprintable()
        for split in (None, 0, 1, 2):
            choose_arm(served.model, manifest, GivenPicture(picture), Wish(split))

    loop = asyncio.new_event_loop()

    def run(data: bytes) -> None:
        try:
            reply = pb.DescribeReply.FromString(data)
        except DecodeError:
            return
        loop.run_until_complete(use(reply))

    return run


def _recipe() -> Run:
    """How a bundle says that pictures and sounds are prepared, executed on small ones."""
    import msgspec
    import numpy as np
    from PIL import Image

    from edge_node import picture_sizes
    from edge_node.preprocess import preprocess
    from wire.preprocessing import ImagePreprocessing
    from wire.sound_preprocessing import SoundPreprocessing

    picture_sizes.MAX_PREPARED_PIXELS = 1 << 20
    picture = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    sound = np.sin(np.arange(4000, dtype=np.float32))
    decoder = msgspec.json.Decoder(ImagePreprocessing | SoundPreprocessing)

    def run(data: bytes) -> None:
        try:
            recipe = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # load_manifest has its own target
        media = picture if isinstance(recipe, ImagePreprocessing) else sound
        with np.errstate(all="ignore"):
            preprocess(recipe, media, Path("/none"))

    return run


def _edited_recipe() -> Run:
    """The first byte says which of two right recipes, of a picture or a sound; the rest are edits of it."""
    import msgspec

    from tests.fuzz.edits import edited
    from tests.fuzz.served import recipes

    bases = [msgspec.to_builtins(recipe) for recipe in recipes()]
    follow = _recipe()

    def run(data: bytes) -> None:
        if data:
            follow(msgspec.json.encode(edited(bases[data[0] % len(bases)], data[1:])))

    return run


def _tokenizer() -> Run:
    """A bundle's tokenizer.json."""
    from edge_node.text import text_tensors
    from wire.text_preprocessing import TextPreprocessing

    folder = Path(tempfile.mkdtemp(prefix="cleave-fuzz-"))
    recipe = TextPreprocessing("tokenizer.json", "00" * 32, 16, 0, "right", has_mask=True)

    def run(data: bytes) -> None:
        from edge_node import text

        (folder / recipe.tokenizer).write_bytes(data)
        text._tokenizer.cache_clear()
        text_tensors(recipe, "a small cat, 2 dogs\n\u00e9", folder)

    return run


def _signature() -> Run:
    """A bundle's manifest.sig, against a key."""
    from edge_node.trust import BundleTrust, Offered, decide, read_public_key
    from tests.fuzz.served import DIGEST, PUBLIC_KEY

    trust = BundleTrust(keys=(read_public_key(PUBLIC_KEY),))
    offered = Offered("host:1", "sample/tiny", DIGEST)

    def run(data: bytes) -> None:
        decide(trust, offered, (), data)

    return run


EDGE_TARGETS = {
    "signature": Target("a bundle's manifest.sig", _signature),
    "down": Target("what comes down a stream", _down, max_input_bytes=8192),
    "parts": Target("the parts of a bundle's files", _parts, max_input_bytes=8192),
    "describe": Target("a DescribeReply", _describe, max_input_bytes=8192),
    "recipe": Target("a recipe of preprocessing, executed", _recipe, memory_bytes=3072 * MIB, seconds=20),
    "edited_recipe": Target(
        "a recipe that is nearly right", _edited_recipe, (CleaveError,), 31, 3072 * MIB, seconds=20
    ),
    "tokenizer": Target("a tokenizer.json, used", _tokenizer, max_input_bytes=8192, memory_bytes=256 * MIB),
}
