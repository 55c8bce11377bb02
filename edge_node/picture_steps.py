"""A recipe's steps on a picture, with Pillow and numpy, bit for bit like the model's own image processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_node.picture_sizes import (
    Size,
    area_size,
    bounded,
    longest_edge_size,
    multiple_size,
    shortest_edge_size,
    within_size,
)
from edge_node.tiles import cut_tiles, flat_patches, resized
from wire.errors import TooLarge
from wire.limits import MAX_TENSOR_BYTES
from wire.preprocessing import (
    TILING,
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Pad,
    Patches,
    Rescale,
    Resize,
    ResizeLongestEdge,
    ResizeShortestEdge,
    ResizeToArea,
    ResizeToMultiple,
    ResizeWithin,
)

Array = NDArray[Any]

_SIZES: dict[type, Callable[[Size, Any], Size]] = {
    Resize: lambda _, step: (step.height, step.width),
    ResizeShortestEdge: shortest_edge_size,
    ResizeLongestEdge: longest_edge_size,
    ResizeToMultiple: multiple_size,
    ResizeWithin: within_size,
    ResizeToArea: area_size,
}


def picture_tensor(recipe: ImagePreprocessing, picture: Image.Image) -> NDArray[np.float32]:
    """The tensor at split point 0; tiles that go through the encoder one by one lie along a first axis."""
    pictures: list[Array] = [np.asarray(picture.convert("RGB"))]  # [height, width, channels] uint8
    for step in recipe.steps:
        _require_room(step, pictures)
        if isinstance(step, TILING):
            pictures = [tile for values in pictures for tile in cut_tiles(values, step)]
        else:
            pictures = [_apply(step, values) for values in pictures]
    if isinstance(recipe.steps[-1] if recipe.steps else None, Patches):
        [patches] = pictures
        return np.ascontiguousarray(patches, dtype=np.float32)
    tensor = np.stack([np.moveaxis(values, -1, 0) for values in pictures])
    ones = (1,) * recipe.leading_axes
    if not recipe.makes_tiles:
        shape = (*ones, *tensor.shape[1:])
    elif recipe.together:
        shape = (*ones, *tensor.shape)
    else:
        shape = (len(tensor), *ones, *tensor.shape[1:])
    return np.ascontiguousarray(tensor.reshape(shape), dtype=np.float32)


def _require_room(step: object, pictures: Sequence[Array]) -> None:
    """Raises TooLarge before numbers are made that no boundary could hold."""
    frames = step.frames if isinstance(step, Patches) else 1
    num_bytes = 4 * frames * sum(values.size for values in pictures)
    if isinstance(step, Rescale | Normalize | Patches) and num_bytes > MAX_TENSOR_BYTES:
        raise TooLarge(
            f"the bundle's recipe makes {num_bytes:,} bytes of this picture, and at most {MAX_TENSOR_BYTES:,} are "
            "made; give a smaller one, or another bundle"
        )


def _apply(step: object, values: Array) -> Array:
    match step:
        case CenterCrop():
            return _center_crop(values, step.height, step.width)
        case Pad():
            bounded((step.height, step.width))
            below, right = step.height - values.shape[0], step.width - values.shape[1]
            return np.pad(values, ((0, below), (0, right), (0, 0)), constant_values=step.fill)
        case Rescale():
            # In float64 first, as the processors do: the product's rounding is part of the reference.
            return (values.astype(np.float64) * step.factor).astype(np.float32)
        case Normalize():
            dtype = values.dtype if np.issubdtype(values.dtype, np.floating) else np.dtype(np.float32)
            mean, std = np.array(step.mean, dtype), np.array(step.std, dtype)
            return (values.astype(dtype) - mean) / std
        case Patches():
            return flat_patches(values, step)
        case _ if type(step) in _SIZES:
            return resized(values, _SIZES[type(step)](values.shape[:2], step), step.resample)  # type: ignore[attr-defined]
        case _:
            raise AssertionError(f"the manifest lets no such step through: {step!r}")


def _center_crop(values: Array, height: int, width: int) -> Array:
    """The middle of the picture; what a smaller picture lacks is zero."""
    above, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    if above >= 0 and left >= 0:
        return values[above : above + height, left : left + width]
    padded_height, padded_width = bounded((max(height, values.shape[0]), max(width, values.shape[1])))
    top = -((values.shape[0] - padded_height) // 2)
    start = -((values.shape[1] - padded_width) // 2)
    padded = np.zeros((padded_height, padded_width, values.shape[2]), values.dtype)
    padded[top : top + values.shape[0], start : start + values.shape[1]] = values
    above, left = max(above + top, 0), max(left + start, 0)
    return padded[above : above + height, left : left + width]
