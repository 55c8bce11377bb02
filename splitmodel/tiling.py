"""Whether a processor cuts its media into tiles that the encoder reads one by one. Found out by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from splitmodel.encoder import EncoderInput, join_tiles
from splitmodel.tensors import relative_error
from wire.limits import MAX_TILES

_TOLERANCE = 1e-4


def tile_axis(inputs: Sequence[EncoderInput], encode: Callable[[EncoderInput], dict[str, Any]]) -> int | None:
    """The axis along which inputs of several sizes differ, where tiles along it give alone what they give together.

    None where all have one shape, the encoder reads across it, or there would be more tiles than one request has.
    """
    axes = _differing_axes(inputs)
    if len(axes) != 1 or (axis := axes.pop()) > 1:
        return None
    largest = max(inputs, key=lambda one: next(iter(one.content.values())).shape[axis])
    if next(iter(largest.content.values())).shape[axis] > MAX_TILES:  # samples of a wave, not tiles
        return None
    try:
        alone = join_tiles([encode(tile) for tile in largest.tiles(axis)])
        together = encode(largest)
    except (RuntimeError, ValueError, IndexError, TypeError):  # an encoder that a single tile does not fit
        return None
    left, right = (_tensors(one) for one in (alone, together))
    if [tensor.shape for tensor in left] != [tensor.shape for tensor in right]:
        return None
    if any(tensor.is_meta for tensor in right):
        return axis
    return axis if relative_error(left, right) <= _TOLERANCE else None


def axis_of_tiles(tile: Sequence[int], inputs: Iterable[EncoderInput]) -> int | None:
    """The axis along which inputs hold several tiles of that shape; None where none of them holds another number."""
    for one in inputs:
        shape = next(iter(one.content.values())).shape
        if len(shape) == len(tile):
            axes = [axis for axis, (a, b) in enumerate(zip(shape, tile, strict=True)) if a != b]
            if len(axes) == 1 and axes[0] <= 1:
                return axes[0]
    return None


def _differing_axes(inputs: Sequence[EncoderInput]) -> set[int]:
    """-1 among them where not even the number of axes is one."""
    first, *others = ([tuple(tensor.shape) for tensor in one.content.values()] for one in inputs)
    axes: set[int] = set()
    for shapes in others:
        for shape, reference in zip(shapes, first, strict=True):
            if len(shape) != len(reference):
                return {-1, 0}
            axes |= {i for i, (a, b) in enumerate(zip(shape, reference, strict=True)) if a != b}
    return axes


def _tensors(output: dict[str, Any]) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
