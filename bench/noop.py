"""A model that does nothing, so that only the service is left: its bundle, its runner, and requests to it as bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Sequence as Values
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

from cloud_node.asked.sequence import Sequence, TextDelta
from wire.bundle_files import FileEntry
from wire.chain_entries import Arm, Chain, InputShape, SplitPoint, Stage, TensorEntry
from wire.chunks import split
from wire.manifest import MANIFEST_NAME, Manifest, Probe, bundle_digest, dump_manifest, load_manifest
from wire.preprocessing import ImagePreprocessing
from wire.tensors import DType, TensorSpec, make_headers
from wire.v1 import inference_pb2 as pb

REPLY = "word " * 600  # 3,000 bytes
MODEL = "noop"
QUESTION = "what?"

Work = Literal["small", "large"]
# What crosses: 4 KiB inside the Open; 196,608 bytes in chunks.
SPLIT_POINTS: dict[Work, int] = {"small": 1, "large": 2}
_SHAPES = {0: (1, 3, 32, 32), 1: (16, 64), 2: (64, 768)}


def make_bundle(folder: Path) -> Path:
    """A manifest with a split point of either size; its files are empty, since nobody runs them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = ["stages/image/000.onnx", "stages/image/001.onnx", "probe.safetensors"]
    points = [_point(index, shape) for index, shape in _SHAPES.items()]
    recipe = ImagePreprocessing(steps=[], leading_axes=1)
    chain = Chain(
        modality="image",
        input_shape=InputShape(shape_id="32x32", tensors=points[0].tensors),
        preprocessing=recipe,
        preprocessing_digest=recipe.digest(),
        split_points=points,
        stages=[Stage(index, path) for index, path in enumerate(paths[:2])],
        codecs=[],
        default_arm=Arm(1, "raw"),
    )
    empty = sha256(b"").hexdigest()
    manifest = Manifest(
        format_version=2,
        model=MODEL,
        architecture="Noop",
        shape="generator",
        weights_digest=empty,
        chains=[chain],
        probe=Probe(paths[2], [], 0.0),
        files=[FileEntry(path, 0, empty) for path in paths],
        made_with={},
    )
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    (folder / MANIFEST_NAME).write_bytes(dump_manifest(manifest))
    return folder


def _point(index: int, shape: tuple[int, ...]) -> SplitPoint:
    spec = TensorSpec("features", DType.parse("float32"), shape)
    return SplitPoint(index, f"layers.{index}", [TensorEntry.of(spec)], spec.num_bytes)


class Message(NamedTuple):
    """One request, as the bytes of what goes up; `payload` is what they carry."""

    parts: tuple[bytes, ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class MessageMaker:
    """Requests to the bundle in `folder`, with random features."""

    folder: Path

    def opening(self, work: Work, payload: bytes) -> pb.Open:
        """Without an id and without the payload."""
        data = (self.folder / MANIFEST_NAME).read_bytes()
        chain = load_manifest(data).chain("image")
        point = SPLIT_POINTS[work]
        specs = chain.boundary(point)
        item = pb.Input(
            modality=pb.MODALITY_IMAGE, image=pb.ImageSize(width=64, height=48), shape_id="32x32", split_point=point,
            codec_id="raw", tensors=make_headers(specs, [len(payload)]), total_bytes=len(payload),
            crc32=crc32(payload), input_key=sha256(payload).digest(),
        )  # fmt: skip
        return pb.Open(
            model=MODEL, bundle_digest=bundle_digest(data), text=QUESTION, inputs=[item],
            settings=pb.GenerationSettings(max_new_tokens=1),
        )  # fmt: skip

    def payload(self, work: Work) -> bytes:
        return os.urandom(4 * _SHAPES[SPLIT_POINTS[work]][0] * _SHAPES[SPLIT_POINTS[work]][1])

    def to_cloud(self, work: Work, request_id: str) -> Message:
        """As an edge sends it that expects a miss: small inside the Open, large in chunks right behind it."""
        payload = self.payload(work)
        opening = self.opening(work, payload)
        opening.request_id = request_id
        ups = [pb.Up(open=opening)]
        opening.inputs[0].follows = work == "large"
        if work == "small":
            opening.inputs[0].payload = payload
            ups = [pb.Up(open=opening)]
        else:
            for offset, data, crc in split(payload):
                ups.append(pb.Up(chunk=pb.Chunk(request_id=request_id, offset=offset, data=data, crc32=crc)))
        return Message(tuple(up.SerializeToString() for up in ups), payload)

    def to_echo(self, work: Work, request_id: str) -> Message:
        """The same in one message, however large."""
        payload = self.payload(work)
        opening = self.opening(work, payload)
        opening.request_id = request_id
        opening.inputs[0].payload = payload
        return Message((pb.Up(open=opening).SerializeToString(),), payload)


class NoopRunner:
    """Reads a prompt of one token, and its first token is the whole answer."""

    def prepare(self, sequences: Values[Sequence]) -> Iterator[None]:
        for sequence in sequences:
            sequence.prepare(_Prompt(), _Text())
            yield None

    def begin(self, prompt: _Prompt, row: int) -> int:
        return 0

    def read(self, prompt: _Prompt, row: int, start: int, stop: int) -> int:
        return 0

    def step(self, prompts: Values[_Prompt], first_row: int = 0) -> list[int]:
        raise AssertionError("one token is all that is ever asked for")

    def move(self, source: int, target: int, prompt: _Prompt) -> None:
        """Rows hold nothing."""


class _Prompt:
    num_tokens = 1
    cuts = (1,)
    max_new_tokens = 1
    stop_ids: frozenset[int] = frozenset()


class _Text:
    is_stopped = False

    def push(self, token_id: int) -> TextDelta:
        return TextDelta(REPLY, 0, 1)

    def end(self) -> None:
        return None
