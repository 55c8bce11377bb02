"""Payloads to encoded inputs: those of many requests join their chain together, each where it enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloud_node.asked.inputs import RequestInput
from cloud_node.model.media_inputs import decode_media
from splitmodel.adapters.base import Adapter
from splitmodel.batching import BatchedChain, Entry
from splitmodel.encoder import AnyEncoded, Encoded, EncodedWhole, Encoder, EncoderInput
from splitmodel.media import Media
from splitmodel.tensors import from_numpy
from wire.codecs import decode, parse_codec
from wire.errors import BadInput
from wire.manifest import Chain
from wire.modality import Modality
from wire.sizes import Size

# Inputs, or tiles of them, that run through a chain together: what a request of many tiles may take of memory.
_MOST_TOGETHER = 32


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """One chain of the bundle, and the same encoder here. The chain may compute in another dtype than is sent."""

    listed: Chain
    encoder: Encoder
    batched: BatchedChain


@dataclass(slots=True, eq=False)
class Taken:
    """One input whose payload is decoded: an entry per tile."""

    tail: Tail
    entries: list[Entry]
    size: Size

    def encoded(self) -> AnyEncoded:
        """Once its entries are at the chain's end."""
        return Encoded(self.tail.encoder, [entry.tensors for entry in self.entries], self.size)


@dataclass(slots=True, eq=False)
class TakenWhole:
    """One input of a shape that no chain is for: the model's own encoder reads it."""

    modality: Modality
    given: EncoderInput
    size: Size
    made: EncodedWhole | None = None

    def encoded(self) -> AnyEncoded:
        assert self.made is not None, "not run yet"
        return self.made


AnyTaken = Taken | TakenWhole


class Tails:
    """Of one model, by chain id."""

    def __init__(self, adapter: Adapter, tails: Mapping[str, Tail]) -> None:
        self.adapter = adapter
        self.by_id = tails
        # The processor runs on a blank input for this; edges send the same sizes again and again.
        self._num_tiles = lru_cache(maxsize=256)(self._count_tiles)

    def take(self, item: RequestInput, payload: memoryview) -> AnyTaken:
        """Decodes a payload; raises BadInput where its tiles, or its size, are not those of an input of its size."""
        if item.is_media:
            return self._take_media(item, decode_media(item, payload))
        tail = self.by_id[item.chain_id]
        if item.num_tiles and item.num_tiles != (expected := self._num_tiles(item.chain_id, item.size)):
            raise BadInput(
                f"the input has {item.num_tiles} tiles, and the model makes {expected} of one of {item.size}; send all "
                "of its tiles"
            )
        specs = tail.listed.boundary(item.split_point, item.num_tiles)
        arrays = decode(parse_codec(item.codec), payload, item.payload_sizes, specs)
        tiles = self.tensors(tail, item.split_point, arrays)
        return Taken(tail, [Entry(item.split_point, tensors) for tensors in tiles], item.size)

    def tensors(self, tail: Tail, split_point: int, arrays: Sequence[NDArray[Any]]) -> list[list[Tensor]]:
        """Features at a split point, as the wire has them, as tensors of the model's device and dtype, tile by tile."""
        model = self.adapter.model
        pairs = zip(arrays, tail.listed.boundary(split_point, 1), strict=True)
        tensors = [from_numpy(np.asarray(array), spec).to(model.device) for array, spec in pairs]
        typed = [tensor.to(model.dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
        if not tail.listed.input_shape.is_tiled:
            return [typed]
        return [list(tile) for tile in zip(*(tensor.unbind(0) for tensor in typed), strict=True)]

    def run(self, taken: Sequence[AnyTaken]) -> list[Exception | None]:
        """Every input to its encoder's end, those of one chain together; for each, why it could not be."""
        failures: list[Exception | None] = [None] * len(taken)
        by_tail: dict[Tail, list[tuple[int, Taken]]] = {}
        for index, one in enumerate(taken):
            if isinstance(one, Taken):
                by_tail.setdefault(one.tail, []).append((index, one))
            else:
                failures[index] = self._encode(one)
        for tail, some in by_tail.items():
            for index, error in _run_together(tail, some).items():
                failures[index] = error
        return failures

    def _take_media(self, item: RequestInput, media: Media) -> AnyTaken:
        """At split point 0 of the chain for inputs of this shape, if there is one."""
        given = self.adapter.encoder_input(item.modality, media)
        for tail in self.by_id.values():
            encoder = tail.encoder
            if encoder.modality != item.modality or encoder.size not in (None, item.size):
                continue
            tiles = [list(tile.content.values()) for tile in given.tiles(encoder.tile_axis)]
            listed = [tuple(entry.shape) for entry in tail.listed.input_shape.tensors]
            if all([tuple(tensor.shape) for tensor in tile] == listed for tile in tiles):
                return Taken(tail, [Entry(0, tile) for tile in tiles], item.size)
        return TakenWhole(item.modality, given, item.size)

    def _encode(self, one: TakenWhole) -> Exception | None:
        try:
            one.made = self.adapter.encode_whole(one.modality, one.given, one.size)
        except Exception as error:  # whatever the model raises is this input's
            return error
        return None

    def _count_tiles(self, chain_id: str, size: Size) -> int:
        encoder = self.by_id[chain_id].encoder
        return self.adapter.num_tiles(encoder.modality, size, encoder.tile_axis)


def _run_together(tail: Tail, taken: Sequence[tuple[int, Taken]]) -> dict[int, Exception]:
    """Together; where that fails, one by one, so that a failure is its own input's."""
    entries = [entry for _, one in taken for entry in one.entries]
    before = {entry: list(entry.tensors) for entry in entries}
    try:
        for start in range(0, len(entries), _MOST_TOGETHER):
            tail.batched.run(entries[start : start + _MOST_TOGETHER])
        return {}
    except Exception:
        failures: dict[int, Exception] = {}
        for index, one in taken:
            try:
                for entry in one.entries:
                    entry.tensors = tail.encoder.chain.run(before[entry], entry.split_point)
            except Exception as error:
                failures[index] = error
        return failures
