"""Pictures: follows a bundle's recipe with Pillow and numpy, bit for bit like the model's own image processor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Pad,
    Rescale,
    Resize,
    ResizeShortestEdge,
)

Array = NDArray[Any]


def picture_tensor(recipe: ImagePreprocessing, picture: Image.Image) -> NDArray[np.float32]:
    """An RGB picture to the tensor at split point 0: [1, channels, height, width] float32."""
    values: Array = np.asarray(picture.convert("RGB"))  # [height, width, channels] uint8
    for step in recipe.steps:
        values = _apply(step, values)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)[None], dtype=np.float32)


def _apply(step: object, values: Array) -> Array:
    match step:
        case Resize():
            return _resized(values, step.height, step.width, step.resample)
        case ResizeShortestEdge():
            height, width = _shortest_edge_size(values.shape[0], values.shape[1], step)
            return _resized(values, height, width, step.resample)
        case CenterCrop():
            return _center_crop(values, step.height, step.width)
        case Pad():
            below, right = step.height - values.shape[0], step.width - values.shape[1]
            return np.pad(values, ((0, below), (0, right), (0, 0)), constant_values=step.fill)
        case Rescale():
            # In float64 first, as the processors do: the product's rounding is part of the reference.
            return (values.astype(np.float64) * step.factor).astype(np.float32)
        case Normalize():
            dtype = values.dtype if np.issubdtype(values.dtype, np.floating) else np.dtype(np.float32)
            mean, std = np.array(step.mean, dtype), np.array(step.std, dtype)
            return (values.astype(dtype) - mean) / std
        case _:
            raise AssertionError(f"the manifest lets no such step through: {step!r}")


def _resized(values: Array, height: int, width: int, resample: int) -> Array:
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling(resample)))


def _shortest_edge_size(height: int, width: int, step: ResizeShortestEdge) -> tuple[int, int]:
    """As transformers' get_size_with_aspect_ratio, which rounds the shorter edge and cuts the longer."""
    short, long = min(height, width), max(height, width)
    exact: float = step.shortest_edge
    if step.longest_edge is not None and long / short * exact > step.longest_edge:
        exact = step.longest_edge * short / long
    scaled = (round(exact), int(exact * long / short))
    if scaled[0] == short:
        return height, width
    return scaled[::-1] if width <= height else scaled


def _center_crop(values: Array, height: int, width: int) -> Array:
    """The middle of the picture; what a smaller picture lacks is zero."""
    above, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    if above >= 0 and left >= 0:
        return values[above : above + height, left : left + width]
    padded_height, padded_width = max(height, values.shape[0]), max(width, values.shape[1])
    top = -((values.shape[0] - padded_height) // 2)
    start = -((values.shape[1] - padded_width) // 2)
    padded = np.zeros((padded_height, padded_width, values.shape[2]), values.dtype)
    padded[top : top + values.shape[0], start : start + values.shape[1]] = values
    above, left = max(above + top, 0), max(left + start, 0)
    return padded[above : above + height, left : left + width]
