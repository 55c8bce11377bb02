"""Which input shapes a bundle lists for a modality: one for all inputs, tiles of one, or one per listed size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from partitioner.samples import default_sizes, fitted
from splitmodel.adapters.base import Adapter
from splitmodel.encoder import Encoder, EncoderInput
from splitmodel.media import Media
from splitmodel.tensors import relative_error
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize

_KINDS: dict[Modality, type[ImageSize] | type[SoundSize]] = {"image": ImageSize, "audio": SoundSize}


def trace_encoders(
    adapter: Adapter, modality: Modality, samples: Sequence[Media], sizes: Sequence[Size] = ()
) -> list[Encoder]:
    """Traces the encoder once where all inputs have one shape, else once per size (those given, of its kind)."""
    axis = adapter.tile_axis(modality, samples)
    inputs = [tile for media in samples for tile in adapter.encoder_input(modality, media).tiles(axis)]
    if _have_one_shape(inputs) and not _sizes_matter(adapter, modality, inputs):
        return [adapter.trace_encoder(modality, samples[-1], axis=axis)]
    kind = _KINDS[modality]
    listed = [size for size in sizes if isinstance(size, kind)]
    return [
        adapter.trace_encoder(modality, fitted(samples[-1], size), size=size)
        for size in listed or default_sizes(adapter, modality)
    ]


def _have_one_shape(inputs: Sequence[EncoderInput]) -> bool:
    shapes = [[tensor.shape for tensor in one.content.values()] for one in inputs]
    return all(other == shapes[0] for other in shapes[1:])


def _sizes_matter(adapter: Adapter, modality: Modality, inputs: Sequence[EncoderInput]) -> bool:
    """Whether the encoder gives something else for the same content where what follows from its size is another's."""
    # Not the constant one: of equal numbers a mask leaves the same mean, whatever it leaves out.
    own = inputs[-1]
    others = [one for one in inputs[:-1] if not _is_same(own.constants, one.constants)]
    reference = _leaves(adapter, modality, own) if others else []
    for one in others:
        if one.constants.keys() != own.constants.keys():
            return True
        made = _leaves(adapter, modality, EncoderInput(own.content, one.constants))
        if [tensor.shape for tensor in made] != [tensor.shape for tensor in reference]:
            return True
        if any(relative_error([left], [right]) != 0 for left, right in zip(made, reference, strict=True)):
            return True
    return False


def _is_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[key]) for key, value in left.items())


def _leaves(adapter: Adapter, modality: Modality, given: EncoderInput) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(adapter.encode(modality, given)) if isinstance(leaf, Tensor)]
