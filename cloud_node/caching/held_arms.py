"""Which arms of an input the cloud holds features of, and which of them serve a request. Pure.

A held arm serves where it is the arm that was asked for, or at least as faithful by the bundle's own numbers. A media
codec has no such number: only lossless features, or the same codec, stand in for it; a file sent as it is stands in for
nothing but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloud_node.asked.inputs import RequestInput, check_together
from cloud_node.asked.request import Request
from cloud_node.asked.served import Served
from wire.codecs import check_payload_sizes, parse_codec
from wire.errors import CleaveError
from wire.limits import MAX_TILES

# Of one input. A device has a handful of arms worth having; more would make every claim longer.
MAX_HELD = 8


@dataclass(frozen=True, slots=True)
class Features:
    """One input's coded features: the tensors' coded sizes, and all their bytes, read-only."""

    payload_sizes: tuple[int, ...]
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Held:
    """Features of an input that were kept, by their key."""

    shape_id: str
    num_tiles: int
    split_point: int
    codec: str
    feature_key: bytes

    @property
    def arm(self) -> tuple[str, int, int, str]:
        return self.shape_id, self.num_tiles, self.split_point, self.codec


def held_as(item: RequestInput, feature_key: bytes) -> Held:
    """What is held once this input's features are kept."""
    return Held(item.shape_id, item.num_tiles, item.split_point, item.codec, feature_key)


def with_held(held: Sequence[Held], new: Held) -> list[Held]:
    """Newest first, one per arm, the oldest forgotten."""
    return [new, *(one for one in held if one.arm != new.arm)][:MAX_HELD]


def serving(
    held: Sequence[Held], wanted: RequestInput, served: Served, *, is_same_arm: bool = False
) -> list[Held]:
    """Those that serve, the arm itself before others, then the newest; or of the arm itself alone."""
    own = held_as(wanted, b"").arm
    found = [one for one in held[:MAX_HELD] if one.arm == own or not is_same_arm]
    return sorted((one for one in found if _serves(one, wanted, served)), key=lambda one: one.arm != own)


def in_place_of(request: Request, chosen: dict[int, Held], served: Served) -> Request | None:
    """The request as if its edge had sent these features of its inputs; None where it would be too large then."""
    inputs = list(request.inputs)
    for index, one in chosen.items():
        inputs[index] = _as_if_sent(inputs[index], one, served)
    try:
        check_together(inputs)
    except CleaveError:
        return None
    return replace(request, inputs=tuple(inputs))


def fits(item: RequestInput, features: Features, served: Served) -> bool:
    """Whether kept features can be what an input of this arm was coded to."""
    if sum(features.payload_sizes) != len(features.payload):
        return False
    if item.is_media:
        return len(features.payload_sizes) == 1
    boundary = served.chain(item.modality, item.shape_id).boundary(item.split_point, item.num_tiles)
    try:
        check_payload_sizes(parse_codec(item.codec), features.payload_sizes, boundary)
    except CleaveError:
        return False
    return True


def _as_if_sent(item: RequestInput, held: Held, served: Served) -> RequestInput:
    feature_bytes = 0
    if held.shape_id:
        chain = served.chain(item.modality, held.shape_id)
        feature_bytes = sum(spec.num_bytes for spec in chain.boundary(held.split_point, held.num_tiles))
    return replace(
        item,
        shape_id=held.shape_id,
        num_tiles=held.num_tiles,
        split_point=held.split_point,
        codec=held.codec,
        feature_bytes=feature_bytes,
    )


def _serves(held: Held, wanted: RequestInput, served: Served) -> bool:
    if held.arm == held_as(wanted, b"").arm:
        return True
    if not held.shape_id or (wanted.shape_id and held.arm[:2] != (wanted.shape_id, wanted.num_tiles)):
        return False
    try:
        chain = served.chain(wanted.modality, held.shape_id)
        tiles = range(1, MAX_TILES + 1) if chain.input_shape.is_tiled else range(1)
        if held.split_point < 0 or held.num_tiles not in tiles:
            return False
        served.require_served(chain, held.split_point)
        loss = _loss(held.shape_id, held.split_point, held.codec, wanted, served)
    except CleaveError:
        return False
    if loss is None:
        return False
    most = (
        _loss(wanted.shape_id, wanted.split_point, wanted.codec, wanted, served) if wanted.shape_id else 0.0
    )
    return loss <= (most or 0.0)


def _loss(shape_id: str, split_point: int, codec: str, item: RequestInput, served: Served) -> float | None:
    """The relative error that the bundle states for an arm; None where it states none."""
    if parse_codec(codec).is_lossless:
        return 0.0
    entry = served.chain(item.modality, shape_id).codec(split_point, codec)
    return entry.faithfulness if entry is not None else None
