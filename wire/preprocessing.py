"""How a picture becomes the encoder's input, as data: the edge executes it, the cloud compares its digest.

The steps and their arithmetic are those of the image processors of transformers.
"""

from typing import Annotated

from msgspec import Meta, Struct

from wire.canonical import struct_digest

_Pixels = Annotated[int, Meta(ge=1, le=65535)]
_Area = Annotated[int, Meta(ge=1, le=2**32)]
_NumTiles = Annotated[int, Meta(ge=1, le=64)]
_Resample = Annotated[int, Meta(ge=0, le=5)]  # Pillow's numbers: 0 nearest, 2 bilinear, 3 bicubic
_PerChannel = Annotated[list[float], Meta(min_length=1, max_length=4)]


class Resize(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize"):
    """To exactly this size."""

    height: _Pixels
    width: _Pixels
    resample: _Resample


class ResizeShortestEdge(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize_shortest_edge"
):
    """Keeps the aspect ratio: the shorter edge becomes `shortest_edge`, the longer at most `longest_edge`."""

    shortest_edge: _Pixels
    longest_edge: _Pixels | None
    resample: _Resample


class CenterCrop(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="center_crop"):
    """The middle of the picture, padded with zeros where the picture is smaller."""

    height: _Pixels
    width: _Pixels


class Pad(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="pad"):
    """Adds `fill` on the right and below."""

    height: _Pixels
    width: _Pixels
    fill: Annotated[int, Meta(ge=0, le=255)]


class Rescale(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="rescale"):
    """Multiplies every number."""

    factor: float


class Normalize(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="normalize"):
    """Subtracts the mean and divides by the standard deviation, per channel."""

    mean: _PerChannel
    std: _PerChannel


class ResizeLongestEdge(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize_longest_edge"
):
    """Keeps the aspect ratio: the longer edge becomes `longest_edge`, the shorter is rounded up to an even number."""

    longest_edge: _Pixels
    resample: _Resample


class ResizeToMultiple(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize_to_multiple"
):
    """Each side up to the next multiple."""

    multiple: _Pixels
    resample: _Resample


class ResizeWithin(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize_within"):
    """Down to within a box where it is larger, keeping the aspect ratio; then each side up to the next multiple."""

    height: _Pixels
    width: _Pixels
    multiple: _Pixels
    resample: _Resample


class ResizeToArea(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize_to_area"):
    """Each side to the nearest multiple; further, keeping the aspect ratio, until the area is within bounds."""

    multiple: _Pixels
    min_pixels: _Area
    max_pixels: _Area
    resample: _Resample


class Tiles(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="tiles"):
    """Cut into tiles, row by row, with the whole picture brought to one tile behind them; one that fits stays whole."""

    side: _Pixels
    resample: _Resample


class TilesOfBestRatio(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="tiles_of_best_ratio"
):
    """Brought to the grid of tiles nearest in aspect ratio, and cut; with several, the whole one behind them."""

    height: _Pixels
    width: _Pixels
    min_tiles: _NumTiles
    max_tiles: _NumTiles
    resample: _Resample


class TilesOfBestFit(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="tiles_of_best_fit"
):
    """Scaled into the listed size that wastes least, padded evenly with zeros, and cut; the whole one before them."""

    sizes: Annotated[list[tuple[_Pixels, _Pixels]], Meta(min_length=1, max_length=256)]  # height, width
    side: _Pixels
    height: _Pixels  # of the whole one
    width: _Pixels
    resample: _Resample


class Patches(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="patches"):
    """Flat patches, [patches, channels x frames x size^2]; those of `merge` x `merge` behind one another."""

    size: _Pixels
    merge: _Pixels
    frames: Annotated[int, Meta(ge=1, le=16)]  # the picture, repeated


Step = (
    Resize
    | ResizeShortestEdge
    | ResizeLongestEdge
    | ResizeToMultiple
    | ResizeWithin
    | ResizeToArea
    | CenterCrop
    | Pad
    | Tiles
    | TilesOfBestRatio
    | TilesOfBestFit
    | Rescale
    | Normalize
    | Patches
)
TILING = (Tiles, TilesOfBestRatio, TilesOfBestFit)


class ImagePreprocessing(Struct, frozen=True, forbid_unknown_fields=True, tag_field="modality", tag="image"):
    """Steps executed in order on an RGB picture, uint8 [height, width, 3]; on every tile, once there are tiles.

    The result is float32 [1, ..., channels, height, width] with `leading_axes` ones in front; or the patches. Tiles
    lie along a first axis of their own, or behind the ones where they go through the encoder `together`.
    """

    steps: Annotated[list[Step], Meta(max_length=32)]
    leading_axes: Annotated[int, Meta(ge=0, le=4)] = 1
    together: bool = False

    @property
    def makes_tiles(self) -> bool:
        return any(isinstance(step, TILING) for step in self.steps)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: 64 hex digits."""
        return struct_digest(self)
