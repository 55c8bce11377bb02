"""From an input to what is sent: its coded features at one arm, with what announces them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from edge_node.arms import Arm, MediaForm
from edge_node.given import Given
from edge_node.head import Head
from edge_node.preprocess import preprocess
from wire.chain_entries import Chain
from wire.codecs import Codec, encode
from wire.errors import TooLarge
from wire.limits import MAX_TILES
from wire.modality import modality_to_wire
from wire.sizes import Size, SoundSize, size_to_wire
from wire.tensors import make_headers
from wire.v1 import inference_pb2 as pb


@dataclass(slots=True)
class Coded:
    """One input at one arm. `item` says all of it but the payload itself."""

    item: pb.Input
    payload: bytes
    label: str  # of the split point
    note: str = ""  # what a person should know of how the input was read
    media_bytes: int | None = None  # of the same input without a head, see `Given`; None: not measured yet


@dataclass(frozen=True, slots=True)
class CodingTimes:
    """Seconds: `encode_s` for preprocessing and head; `began_s` on `time.perf_counter`."""

    encode_s: float = 0.0
    codec_s: float = 0.0
    began_s: float = 0.0


def code(arm: Arm, head: Head, given: Given, folder: Path, input_key: bytes) -> tuple[Coded, CodingTimes]:
    """Preprocessing, head and codec; or a media codec alone. `folder` is the bundle's."""
    item = pb.Input(
        modality=modality_to_wire(given.modality),
        input_key=input_key,
        shape_id=arm.shape_id,
        split_point=arm.split_point,
        codec_id=arm.codec.codec_id,
        setting=arm.codec.setting,
    )
    if isinstance(arm.codec, MediaForm):
        payload, times = _media(arm.chain, arm.codec, given, item)
    else:
        payload, times = _features(arm, arm.codec, head, given, folder, item)
    item.total_bytes, item.crc32 = len(payload), crc32(payload)
    label = arm.chain.split_points[arm.split_point].label
    return Coded(item, payload, label, given.note()), times


def _media(chain: Chain, form: MediaForm, given: Given, item: pb.Input) -> tuple[bytes, CodingTimes]:
    started = time.perf_counter()
    payload = given.encode(chain, form.codec_id, form.setting) if form.setting else given.data
    size_to_wire(item, given.size(chain))
    return payload, CodingTimes(0.0, time.perf_counter() - started, started)


def _features(
    arm: Arm, codec: Codec, head: Head, given: Given, folder: Path, item: pb.Input
) -> tuple[bytes, CodingTimes]:
    started = time.perf_counter()
    chain = arm.chain
    tensors = preprocess(chain.preprocessing, given.media(chain), folder)
    if chain.input_shape.is_tiled:
        item.num_tiles = len(tensors[0])
        if item.num_tiles > MAX_TILES:
            raise TooLarge(
                f"{given.name} makes {item.num_tiles} tiles, and at most {MAX_TILES} are taken; cut it"
            )
    features = head.run(tensors, arm.split_point)
    encoded = time.perf_counter()
    specs = chain.boundary(arm.split_point, item.num_tiles)
    payloads = encode(codec, features, specs)
    payload = b"".join(payloads)
    item.tensors.extend(make_headers(specs, [len(part) for part in payloads]))
    size_to_wire(item, _prepared_size(chain, given))
    return payload, CodingTimes(encoded - started, time.perf_counter() - encoded, started)


def _prepared_size(chain: Chain, given: Given) -> Size:
    """A sound that was padded to a listed length is as long as that: its features are."""
    size, listed = given.size(chain), chain.input_shape.samples
    return SoundSize(listed, size.sample_rate_hz) if listed and isinstance(size, SoundSize) else size
