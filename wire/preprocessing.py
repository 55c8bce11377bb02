"""How a picture becomes the encoder's input, as data: the edge executes it, the cloud compares its digest.

The steps and their arithmetic are those of the image processors of transformers.
"""

from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_Pixels = Annotated[int, Meta(ge=1, le=65535)]
_Resample = Annotated[int, Meta(ge=0, le=5)]  # Pillow's numbers: 0 nearest, 2 bilinear, 3 bicubic
_PerChannel = Annotated[list[float], Meta(min_length=1, max_length=4)]


def recipe_digest(recipe: Struct) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces, shortest numbers): 64 hex digits.

    Raises msgspec.ValidationError for a value out of its bounds.
    """
    # Decoding turns an int that stands for a float into a float, so that 1 and 1.0 have one digest.
    canonical = msgspec.json.decode(msgspec.json.encode(recipe), type=type(recipe))
    return sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()


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


Step = Resize | ResizeShortestEdge | CenterCrop | Pad | Rescale | Normalize


class ImagePreprocessing(Struct, frozen=True, forbid_unknown_fields=True, tag_field="modality", tag="image"):
    """Steps executed in order on an RGB picture, uint8 [height, width, 3]; the result is [1, 3, h, w]."""

    steps: Annotated[list[Step], Meta(max_length=32)]

    def digest(self) -> str:
        """64 hex digits; raises msgspec.ValidationError for a value out of its bounds."""
        return recipe_digest(self)
