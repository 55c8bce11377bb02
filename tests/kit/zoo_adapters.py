"""The zoo's models as adapters, each made and loaded at most once per test run, and media for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from partitioner.samples import fitted, made_samples
from partitioner.shapes import trace_encoders
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoded, Encoder
from splitmodel.loading import load
from splitmodel.media import Media, MediaInput, size_of
from tests.kit.zoo_bundles import IMAGE_SIZES, SOUND_SIZES, checkpoint
from wire.modality import Modality


@cache
def adapter_of(name: str) -> Adapter:
    """Nobody changes its weights: load it again for that."""
    return adapter_for(load(str(folder_of(name))))


def folder_of(name: str) -> Path:
    return checkpoint(name)


@cache
def encoders_of(name: str, modality: Modality) -> list[Encoder]:
    """One per input shape."""
    sizes = (*IMAGE_SIZES, *SOUND_SIZES)
    adapter = adapter_of(name)
    return trace_encoders(adapter, modality, made_samples(adapter, modality, 6), sizes)


def untraced(name: str, encoder: Encoder, count: int = 2) -> list[Media]:
    """Inputs of the encoder's size that it was not traced with, of several sizes where it takes them."""
    samples = made_samples(adapter_of(name), encoder.modality, count + 1, seed=500)[1:]
    return [fitted(media, encoder.size) for media in samples]


def through(name: str, encoder: Encoder, media: Media, split_point: int) -> Encoded:
    """Head, then tail, of every tile."""
    adapter, chain = adapter_of(name), encoder.chain
    tiles = [chain.run(tile, 0, split_point) for tile in adapter.boundary_input(encoder, media)]
    ended = [chain.run(tile, split_point) for tile in tiles]
    return Encoded(encoder, ended, size_of(media, adapter.processing.rate_hz))


def given(encoder: Encoder, media: Media) -> MediaInput:
    return MediaInput(encoder.modality, media)
