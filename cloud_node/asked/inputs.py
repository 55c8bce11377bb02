"""One input of an Open, checked against its chain and the limits before anything is allocated. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_node.asked.served import Bounds, Served
from wire.codecs import check_payload_sizes, codec_name, find_codec
from wire.errors import BadInput, MalformedMessage, TooLarge
from wire.limits import KEY_BYTES, MAX_IMAGE_PIXELS, MAX_SOUND_S, MAX_TENSOR_BYTES, MAX_TILES
from wire.manifest import Chain
from wire.media.registry import find_media_codec
from wire.modality import Modality, modality_from_wire
from wire.sizes import ImageSize, Size, SoundSize, size_from_wire
from wire.tensors import check_headers
from wire.v1 import inference_pb2 as pb

# Blank pictures of all of a request's sizes exist at once.
_MAX_PIXELS = 2 * MAX_IMAGE_PIXELS


@dataclass(frozen=True, slots=True)
class RequestInput:
    """One picture, sound or text of a request, in terms that the runner can trust."""

    modality: Modality
    shape_id: str  # empty where it is a file of its own, in a media codec
    split_point: int
    codec: str
    size: Size
    payload_sizes: tuple[int, ...]  # bytes of each coded tensor
    crc32: int
    num_tiles: int = 0  # behind one another in each tensor; 0 where the chain is not tiled
    input_key: bytes = b""  # what the edge says the features were made of; empty: not said
    feature_bytes: int = 0  # of the tensors, decoded

    @property
    def is_media(self) -> bool:
        return not self.shape_id

    @property
    def chain_id(self) -> str:
        return f"{self.modality}/{self.shape_id}"

    @property
    def total_bytes(self) -> int:
        return sum(self.payload_sizes)

    @property
    def decoded_bytes(self) -> int:
        """What it comes to before anything computes with it: features, or a picture's or sound's own numbers."""
        if isinstance(self.size, ImageSize):
            return max(self.feature_bytes, 3 * self.size.width * self.size.height)
        return max(self.feature_bytes, 4 * self.size.samples if isinstance(self.size, SoundSize) else 0)


def parse_inputs(items: Sequence[pb.Input], served: Served, bounds: Bounds) -> tuple[RequestInput, ...]:
    """The inputs of an Open; raises a CleaveError that says which one may not be so, and why."""
    limits = bounds.limits
    check_count(items, bounds)
    total = sum(item.total_bytes for item in items)
    if total > limits.max_request_bytes:
        raise TooLarge(
            f"the payloads have {total:,} bytes, and this cloud takes {limits.max_request_bytes:,} per request; use "
            "another split point or codec"
        )
    inline_bytes = [len(item.payload) for item in items]  # which protobuf copies at every look
    if sum(inline_bytes) > limits.max_inline_bytes:
        raise TooLarge(f"an Open holds at most {limits.max_inline_bytes:,} bytes of payloads; send chunks")
    parsed = tuple(_parse(item, num, served) for item, num in zip(items, inline_bytes, strict=True))
    check_together(parsed)
    return parsed


def check_count(items: Sequence[pb.Input], bounds: Bounds) -> None:
    """Raises BadInput for none, or too many."""
    most = bounds.limits.max_inputs
    if not 1 <= len(items) <= most:
        raise BadInput(f"the request has {len(items)} inputs, and it must have 1 to {most}")


def _parse(item: pb.Input, inline_bytes: int, served: Served) -> RequestInput:
    modality = modality_from_wire(item.modality)
    served.manifest.of(modality)
    size = size_from_wire(item, modality)
    if isinstance(size, SoundSize) and size.sample_rate_hz != served.rate_hz:
        raise BadInput(
            f"the sound has {size.sample_rate_hz} samples a second, and {served.name} reads {served.rate_hz}; "
            "resample it"
        )
    if item.shape_id:
        codec, sizes, feature_bytes = _coded(item, served.chain(modality, item.shape_id), size, served)
    else:
        codec, sizes, feature_bytes = *_media(item, modality), 0
    if item.total_bytes != sum(sizes):
        raise MalformedMessage(
            f"the tensors come to {sum(sizes):,} bytes, and total_bytes says {item.total_bytes:,}"
        )
    if inline_bytes not in (0, item.total_bytes):
        raise MalformedMessage(f"the Open holds {inline_bytes:,} of {item.total_bytes:,} bytes of a payload")
    if len(item.input_key) not in (0, KEY_BYTES):
        raise MalformedMessage(f"input_key has {len(item.input_key)} bytes, and it has {KEY_BYTES}, or none")
    return RequestInput(
        modality=modality,
        shape_id=item.shape_id,
        split_point=item.split_point,
        codec=codec,
        size=size,
        payload_sizes=tuple(sizes),
        crc32=item.crc32,
        num_tiles=item.num_tiles,
        input_key=item.input_key,
        feature_bytes=feature_bytes,
    )


def _media(item: pb.Input, modality: Modality) -> tuple[str, list[int]]:
    """A file at split point 0: the bytes say what they hold, and its decoder bounds that."""
    codec = find_media_codec(item.codec_id, item.setting)
    if codec.modality != modality:
        raise BadInput(f"the input is {modality}, and {codec.codec_id} is a codec of {codec.modality}")
    if item.split_point or item.tensors or item.num_tiles:
        raise MalformedMessage(
            f"an input in {codec.codec_id} is at split point 0, with no tensors and no tiles; it says split point "
            f"{item.split_point}, {len(item.tensors)} tensors and {item.num_tiles} tiles"
        )
    if not item.total_bytes:
        raise MalformedMessage(f"an input in {codec.codec_id} has no bytes")
    return codec_name(item.codec_id, item.setting), [item.total_bytes]


def _coded(item: pb.Input, chain: Chain, size: Size, served: Served) -> tuple[str, list[int], int]:
    """Of tensors that cross a split point: codec, coded sizes, and all bytes of them decoded."""
    served.require_served(chain, item.split_point)
    _check_size(size, chain)
    is_tiled = chain.input_shape.is_tiled
    if not (1 <= item.num_tiles <= MAX_TILES if is_tiled else item.num_tiles == 0):
        expected = f"1 to {MAX_TILES}" if is_tiled else "0, as it is not tiled"
        raise MalformedMessage(
            f"the input says {item.num_tiles} tiles, and for {chain.chain_id} it says {expected}"
        )
    boundary = chain.boundary(item.split_point, item.num_tiles)
    codec = find_codec(item.codec_id, item.setting)
    sizes = check_headers(item.tensors, boundary)
    check_payload_sizes(codec, sizes, boundary)
    return str(codec), sizes, sum(spec.num_bytes for spec in boundary)


def _check_size(size: Size, chain: Chain) -> None:
    """Raises BadInput where a chain is for inputs of one size, and this is another."""
    shape = chain.input_shape
    expected: Size | None = None
    if isinstance(size, ImageSize) and shape.width is not None and shape.height is not None:
        expected = ImageSize(shape.width, shape.height)
    elif isinstance(size, SoundSize) and shape.samples is not None:
        expected = SoundSize(shape.samples, size.sample_rate_hz)
    if expected is not None and size != expected:
        raise BadInput(
            f"the input is {size}, and {chain.chain_id} is for inputs of {expected}; use another shape"
        )


def check_together(inputs: Sequence[RequestInput]) -> None:
    """What one request makes the cloud hold at once, however small it is coded."""
    decoded = sum(item.feature_bytes for item in inputs)
    if decoded > MAX_TENSOR_BYTES:
        raise TooLarge(
            f"the features of the request come to {decoded:,} bytes, decoded, and at most {MAX_TENSOR_BYTES:,} are "
            "taken; ask about fewer at a time"
        )
    pixels = sum(item.size.width * item.size.height for item in inputs if isinstance(item.size, ImageSize))
    if pixels > _MAX_PIXELS:
        raise TooLarge(f"the pictures have {pixels:,} pixels together, and at most {_MAX_PIXELS:,} are taken")
    seconds = sum(item.size.seconds for item in inputs if isinstance(item.size, SoundSize))
    if seconds > MAX_SOUND_S:
        raise TooLarge(f"the sounds last {seconds:,.0f} s together, and at most {MAX_SOUND_S:,} s are taken")
