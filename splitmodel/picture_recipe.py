"""An image processor as plain steps that a device can follow, read off its settings."""

from __future__ import annotations

from typing import Any

import msgspec

from wire.errors import BadInput
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Rescale,
    Resize,
    ResizeShortestEdge,
)


def picture_recipe(image_processor: Any) -> ImagePreprocessing:
    """The recipe; whoever relies on it checks that it is equal.

    Raises BadInput for a setting that no step expresses.
    """
    try:
        recipe = ImagePreprocessing(steps=_steps(image_processor))
        recipe.digest()  # checks every step's values
    except (AttributeError, TypeError, msgspec.ValidationError) as error:
        raise BadInput(
            f"the image processor has settings that no preprocessing step expresses ({error}); use a "
            "checkpoint whose processor resizes to a fixed size"
        ) from error
    return recipe


def _steps(settings: Any) -> list[Any]:
    steps: list[Any] = []
    if settings.do_resize:
        steps.append(_resize(settings))
    if getattr(settings, "do_center_crop", False):
        steps.append(CenterCrop(height=settings.crop_size.height, width=settings.crop_size.width))
    if settings.do_rescale:
        steps.append(Rescale(factor=float(settings.rescale_factor)))
    if settings.do_normalize:
        mean, std = (list(map(float, values)) for values in (settings.image_mean, settings.image_std))
        steps.append(Normalize(mean=mean, std=std))
    return steps


def _resize(settings: Any) -> Resize | ResizeShortestEdge:
    size, resample = settings.size, int(settings.resample)
    if size.height and size.width:
        return Resize(height=size.height, width=size.width, resample=resample)
    if size.shortest_edge:
        return ResizeShortestEdge(
            shortest_edge=size.shortest_edge, longest_edge=size.longest_edge, resample=resample
        )
    raise BadInput(
        f"the image processor resizes to {dict(size)}, and only a fixed height and width or a shortest edge is "
        "served; use a checkpoint with such a processor"
    )
