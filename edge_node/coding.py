"""From a picture to what is sent: the arm that is taken, and the coded features with what announces them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from zlib import crc32

from edge_node.head import Head
from edge_node.media import Picture
from edge_node.preprocess import preprocess
from wire.codecs import Codec, encode, parse_codec
from wire.errors import UnknownSplitPoint
from wire.manifest import Manifest
from wire.tensors import make_headers
from wire.v1 import inference_pb2 as pb


@dataclass(slots=True)
class Coded:
    """One picture's features at one arm. `item` says all of them but the payload itself."""

    item: pb.Input
    payload: bytes
    label: str  # of the split point
    jpeg_bytes: int | None = None  # of the same picture; None: not measured yet


@dataclass(frozen=True, slots=True)
class CodingTimes:
    """Seconds: `encode_s` for preprocessing and head."""

    encode_s: float = 0.0
    codec_s: float = 0.0


def choose_arm(
    model: pb.Model, manifest: Manifest, split: int | None, codec: str | None
) -> tuple[int, Codec]:
    """What the caller named, and the bundle's default arm for the rest."""
    points = model.chains[0].split_points
    chosen = manifest.default_arm.split_point if split is None else split
    if not 0 <= chosen < len(points):
        raise UnknownSplitPoint(
            f"{model.name} has the split points 0 to {len(points) - 1}, not {chosen}; see `cleave describe`"
        )
    if not points[chosen].served:
        raise UnknownSplitPoint(f"the cloud does not serve split point {chosen}: {points[chosen].reason}")
    return chosen, parse_codec(codec or manifest.default_arm.codec)


def code(
    manifest: Manifest, head: Head, picture: Picture, input_key: bytes, split: int, codec: Codec
) -> tuple[Coded, CodingTimes]:
    """Preprocessing, head and codec."""
    point = manifest.chains[0].split_points[split]
    started = time.perf_counter()
    pixels = preprocess(manifest.preprocessing, picture.image)
    features = head.run(pixels, split)
    encoded = time.perf_counter()
    payloads = encode(codec, features, point.specs())
    payload = b"".join(payloads)
    coded = time.perf_counter()
    item = pb.Input(
        modality=pb.MODALITY_IMAGE,
        input_key=input_key,
        image=pb.ImageSize(width=picture.width, height=picture.height),
        shape_id=manifest.chains[0].input_shape.shape_id,
        split_point=split,
        codec_id=codec.codec_id,
        setting=codec.setting,
        tensors=make_headers(point.specs(), [len(part) for part in payloads]),
        total_bytes=len(payload),
        crc32=crc32(payload),
    )
    return Coded(item, payload, point.label), CodingTimes(encoded - started, coded - encoded)
