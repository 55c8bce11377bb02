"""A picture as several: tiles with an overview, or flat patches. Arrays are [height, width, channels]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_node.picture_sizes import Size, best_fit, best_grid, bounded, scaled_into
from wire.preprocessing import Patches, Tiles, TilesOfBestFit, TilesOfBestRatio

Array = NDArray[Any]


def resized(values: Array, size: Size, resample: int) -> Array:
    """To (height, width), by Pillow; raises TooLarge."""
    height, width = bounded(size)
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling(resample)))


def cut_tiles(values: Array, step: Tiles | TilesOfBestRatio | TilesOfBestFit) -> list[Array]:
    """The tiles in the order in which the encoder gets them."""
    match step:
        case Tiles():
            height, width = values.shape[:2]
            if max(height, width) <= step.side:
                return [values]
            whole = resized(values, (step.side, step.side), step.resample)
            return [*_grid(values, step.side, step.side), whole]
        case TilesOfBestRatio():
            rows, columns = best_grid(values.shape[:2], step)
            brought = resized(values, (rows * step.height, columns * step.width), step.resample)
            tiles = _grid(brought, step.height, step.width)
            return (
                tiles
                if len(tiles) == 1
                else [*tiles, resized(values, (step.height, step.width), step.resample)]
            )
        case TilesOfBestFit():
            box = bounded(best_fit(values.shape[:2], step.sizes))
            scaled = resized(values, scaled_into(values.shape[:2], box), step.resample)
            below, right = box[0] - scaled.shape[0], box[1] - scaled.shape[1]
            even = ((below // 2, below - below // 2), (right // 2, right - right // 2), (0, 0))
            whole = resized(values, (step.height, step.width), step.resample)
            return [whole, *_grid(np.pad(scaled, even), step.side, step.side)]


def flat_patches(values: Array, step: Patches) -> Array:
    """[patches, channels x frames x size x size]."""
    size, merge = step.size, step.merge
    height, width, channels = values.shape
    rows, columns = height // size, width // size
    blocks = values.reshape(rows // merge, merge, size, columns // merge, merge, size, channels)
    # To [block rows, block columns, rows in block, columns in block, channels, height, width].
    patches = blocks.transpose(0, 3, 1, 4, 6, 2, 5)[:, :, :, :, :, None]
    repeated = np.broadcast_to(patches, (*patches.shape[:5], step.frames, size, size))
    return repeated.reshape(rows * columns, channels * step.frames * size * size)


def _grid(values: Array, height: int, width: int) -> list[Array]:
    """Row by row; the last of a row or column may be smaller."""
    return [
        values[top : top + height, left : left + width]
        for top in range(0, values.shape[0], height)
        for left in range(0, values.shape[1], width)
    ]
