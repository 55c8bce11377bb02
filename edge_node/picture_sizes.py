"""To which size a picture is brought: the arithmetic of the image processors of transformers. Pure.

Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wire.errors import TooLarge
from wire.limits import MAX_IMAGE_PIXELS
from wire.preprocessing import (
    ResizeLongestEdge,
    ResizeShortestEdge,
    ResizeToArea,
    ResizeToMultiple,
    ResizeWithin,
    TilesOfBestRatio,
)

Size = tuple[int, int]

# A recipe is a peer's, too. The widest picture that is taken, its shorter edge brought to 1024, has 210 million.
MAX_PREPARED_PIXELS = 4 * MAX_IMAGE_PIXELS
# What the processors never exceed, whatever they are set to.
_MAX_LONGEST_EDGE = 4096


def bounded(size: Size) -> Size:
    """The size itself; raises TooLarge for a picture that no recipe may make."""
    height, width = size
    if height * width > MAX_PREPARED_PIXELS:
        raise TooLarge(
            f"the bundle's recipe makes a picture of {width} x {height}, and at most {MAX_PREPARED_PIXELS:,} pixels "
            "are made; give a smaller one, or another bundle"
        )
    return size


def shortest_edge_size(size: Size, step: ResizeShortestEdge) -> Size:
    """As transformers' get_size_with_aspect_ratio, which rounds the shorter edge and cuts the longer."""
    height, width = size
    short, long = min(height, width), max(height, width)
    exact: float = step.shortest_edge
    if step.longest_edge is not None and long / short * exact > step.longest_edge:
        exact = step.longest_edge * short / long
    scaled = (round(exact), int(exact * long / short))
    if scaled[0] == short:
        return size
    return scaled[::-1] if width <= height else scaled


def longest_edge_size(size: Size, step: ResizeLongestEdge) -> Size:
    """Up or down to the longest edge, then down to what is never exceeded."""
    height, width = size
    ratio = width / height
    if width >= height:
        width = step.longest_edge
        height = _even(int(width / ratio))
    else:
        height = step.longest_edge
        width = _even(int(height * ratio))
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if max(height, width) > _MAX_LONGEST_EDGE:
        if width >= height:
            height, width = int(_MAX_LONGEST_EDGE / ratio), _MAX_LONGEST_EDGE
        else:
            height, width = _MAX_LONGEST_EDGE, int(_MAX_LONGEST_EDGE * ratio)
    return max(height, 1), max(width, 1)


def multiple_size(size: Size, step: ResizeToMultiple) -> Size:
    """The longer side up to a multiple; the shorter follows it, and then goes up to a multiple, too."""
    height, width = size
    ratio = width / height
    if width >= height:
        width = _up(width, step.multiple)
        return _up(int(width / ratio), step.multiple), width
    height = _up(height, step.multiple)
    return height, _up(int(height * ratio), step.multiple)


def within_size(size: Size, step: ResizeWithin) -> Size:
    height, width = size
    ratio = max(height / step.height, width / step.width)
    if ratio > 1:
        height, width = math.floor(height / ratio), math.floor(width / ratio)
    return ((height - 1) // step.multiple + 1) * step.multiple, (
        (width - 1) // step.multiple + 1
    ) * step.multiple


def area_size(size: Size, step: ResizeToArea) -> Size:
    height, width = size
    factor = step.multiple
    near = round(height / factor) * factor, round(width / factor) * factor
    if near[0] * near[1] > step.max_pixels:
        beta = math.sqrt((height * width) / step.max_pixels)
        return (
            max(factor, math.floor(height / beta / factor) * factor),
            max(factor, math.floor(width / beta / factor) * factor),
        )
    if near[0] * near[1] < step.min_pixels:
        beta = math.sqrt(step.min_pixels / (height * width))
        return math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
    return near


def best_grid(size: Size, step: TilesOfBestRatio) -> Size:
    """Rows and columns of the grid nearest in aspect ratio; of equals the larger, while the picture fills it."""
    height, width = size
    counts = range(1, step.max_tiles + 1)
    grids = [(c, r) for c in counts for r in counts if step.min_tiles <= c * r <= step.max_tiles]
    best, least = (1, 1), math.inf
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        fills = width * height > 0.5 * step.height * step.width * columns * rows
        if difference < least or (difference == least and fills):
            best, least = (columns, rows), difference
    return best[1], best[0]


def best_fit(size: Size, sizes: Sequence[Size]) -> Size:
    """The listed size that keeps most of the picture's pixels, and of those the one that wastes least."""
    height, width = size

    def worth(listed: Size) -> tuple[int, int]:
        scale = min(listed[1] / width, listed[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - listed[0] * listed[1]

    return max(sizes, key=worth)


def scaled_into(size: Size, box: Size) -> Size:
    """Keeping the aspect ratio, until one side is the box's."""
    height, width = size
    across, down = box[1] / width, box[0] / height
    if across < down:
        return min(math.ceil(height * across), box[0]), box[1]
    return box[0], min(math.ceil(width * down), box[1])


def _up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def _even(value: int) -> int:
    return value + value % 2
