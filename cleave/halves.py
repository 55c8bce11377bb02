"""A model in both halves, and whole: joined by the bytes that would cross the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_node.head import Head
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.encoder import Encoded, Encoder
from splitmodel.media import Media, MediaInput, size_of
from splitmodel.model_call import ModelCall
from splitmodel.tensors import from_numpy
from wire.codecs import decode, encode, parse_codec
from wire.manifest import Chain, Manifest

Logits = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Generated:
    """Greedy tokens and the logits that chose them, [tokens, vocabulary]; of a dual encoder no token, and one row."""

    tokens: list[int]
    logits: Logits


@dataclass(frozen=True, slots=True)
class Halves:
    """Encoders and heads are by chain id."""

    adapter: Adapter
    encoders: Mapping[str, Encoder]
    manifest: Manifest
    heads: Mapping[str, Head]
    folder: Path

    @classmethod
    def of(cls, made: Partitioned, num_threads: int = 0) -> Halves:
        """Of a bundle that was just made, with the model that it was made of."""
        return cls(
            made.adapter,
            made.encoders,
            made.manifest,
            make_heads(made.folder, made.manifest, num_threads),
            made.folder,
        )

    def boundary(self, chain: Chain, media: Media, split_point: int) -> list[list[torch.Tensor]]:
        """What the cloud decodes, by tile, of what the device prepared, ran through its head and coded."""
        arrays = preprocess(chain.preprocessing, media, self.folder)
        made = self.heads[chain.chain_id].run(arrays, split_point)
        is_tiled = chain.input_shape.is_tiled
        specs = chain.boundary(split_point, len(made[0]) if is_tiled else 0)
        codec = parse_codec("raw")
        payloads = encode(codec, made, specs)
        sizes = [len(payload) for payload in payloads]
        decoded = decode(codec, memoryview(b"".join(payloads)), sizes, specs)
        tensors = [from_numpy(array, spec) for array, spec in zip(decoded, specs, strict=True)]
        return [list(tile) for tile in zip(*tensors, strict=True)] if is_tiled else [tensors]

    def encoded(self, chain: Chain, media: Media, split_point: int) -> Encoded:
        """Both halves of the encoder."""
        encoder = self.encoders[chain.chain_id]
        tiles = [encoder.chain.run(tile, split_point) for tile in self.boundary(chain, media, split_point)]
        return Encoded(encoder, tiles, size_of(media, self.adapter.processing.rate_hz))

    def whole(self, inputs: Sequence[MediaInput], prompt: str, num_tokens: int) -> Generated:
        """The whole model's own answer."""
        if isinstance(self.adapter, DualEncoder):
            return _vector(self.adapter.whole_embedding(inputs[0]))
        return generate(self.adapter.whole(inputs, prompt), num_tokens)

    def split(self, encoded: Sequence[Encoded], prompt: str, num_tokens: int) -> Generated:
        """The answer from the chains' ends."""
        if isinstance(self.adapter, DualEncoder):
            return _vector(self.adapter.embedding(encoded[0]))
        return generate(self.adapter.split(encoded, prompt), num_tokens)


def make_heads(folder: Path, manifest: Manifest, num_threads: int = 0) -> dict[str, Head]:
    """One head per chain."""
    return {chain.chain_id: Head(folder, chain, num_threads) for chain in manifest.chains}


def generate(call: ModelCall, num_tokens: int) -> Generated:
    """Greedily, by the model's own `generate`."""
    settings: dict[str, Any] = {"max_new_tokens": num_tokens, "do_sample": False}
    output = call.generate(**settings, output_logits=True, return_dict_in_generate=True)
    logits = torch.stack([row[0].float() for row in output.logits]).cpu().numpy()
    return Generated(output.sequences[0].tolist()[-len(logits) :], logits)


def _vector(embedding: torch.Tensor) -> Generated:
    return Generated([], embedding.cpu().numpy()[None])
