"""Which input shapes a bundle lists for a modality: one for all inputs, tiles of one, or one per listed size."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from partitioner.samples import default_sizes, fitted
from splitmodel.adapters.base import Adapter
from splitmodel.encoder import Encoder, EncoderInput
from splitmodel.media import Media
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize

_KINDS: dict[Modality, type[ImageSize] | type[SoundSize]] = {"image": ImageSize, "audio": SoundSize}


def trace_encoders(
    adapter: Adapter, modality: Modality, samples: Sequence[Media], sizes: Sequence[Size] = ()
) -> list[Encoder]:
    """Traces the encoder once where all inputs have one shape, else once per size (those given, of its kind)."""
    axis = adapter.tile_axis(modality, samples)
    inputs = [tile for media in samples for tile in adapter.encoder_input(modality, media).tiles(axis)]
    if all(_is_alike(inputs[0], other) for other in inputs[1:]):
        return [adapter.trace_encoder(modality, samples[-1], axis=axis)]
    kind = _KINDS[modality]
    listed = [size for size in sizes if isinstance(size, kind)]
    return [
        adapter.trace_encoder(modality, fitted(samples[-1], size), size=size)
        for size in listed or default_sizes(modality, adapter.processing.rate_hz)
    ]


def _is_alike(left: EncoderInput, right: EncoderInput) -> bool:
    """One shape of content, and the same of all that follows from the input's size."""
    shapes = [[tensor.shape for tensor in one.content.values()] for one in (left, right)]
    return shapes[0] == shapes[1] and all(
        torch.equal(value, right.constants[key]) for key, value in left.constants.items()
    )
