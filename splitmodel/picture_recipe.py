"""An image processor as plain steps that a device can follow, read off its settings.

Whatever a setting means in one processor and not in another shows where the recipe is compared with the processor.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wire.errors import BadInput
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Patches,
    Rescale,
    Resize,
    ResizeLongestEdge,
    ResizeShortestEdge,
    ResizeToArea,
    ResizeToMultiple,
    ResizeWithin,
    Step,
    Tiles,
    TilesOfBestFit,
    TilesOfBestRatio,
)


def picture_recipe(image_processor: Any, rank: int = 4, *, is_tiled: bool = False) -> ImagePreprocessing:
    """The recipe whose result has so many axes, of one tile `is_tiled`; whoever relies on it checks that it is equal.

    Raises BadInput for a setting that no step expresses.
    """
    try:
        steps = _steps(image_processor)
        recipe = ImagePreprocessing(steps=steps)
        together = recipe.makes_tiles and not is_tiled
        leading_axes = max(0, rank - 3 - together)
        recipe = ImagePreprocessing(steps=steps, leading_axes=leading_axes, together=together)
        recipe.digest()  # checks every step's values
    except (AttributeError, TypeError, msgspec.ValidationError) as error:
        raise BadInput(
            f"the image processor has settings that no preprocessing step expresses ({error}); use a "
            "checkpoint whose processor resizes to a fixed size"
        ) from error
    return recipe


def _steps(settings: Any) -> list[Step]:
    steps = [*_sizing(settings)]
    if getattr(settings, "do_center_crop", False):
        steps.append(CenterCrop(height=settings.crop_size.height, width=settings.crop_size.width))
    if settings.do_rescale:
        steps.append(Rescale(factor=float(settings.rescale_factor)))
    if settings.do_normalize:
        mean, std = (list(map(float, values)) for values in (settings.image_mean, settings.image_std))
        steps.append(Normalize(mean=mean, std=std))
    if merge := getattr(settings, "merge_size", None):
        frames = getattr(settings, "temporal_patch_size", None) or 1
        steps.append(Patches(size=settings.patch_size, merge=merge, frames=frames))
    return steps


def _sizing(settings: Any) -> list[Step]:
    """What brings a picture to its size, tiles included."""
    size, resample = settings.size, int(settings.resample)
    if pinpoints := getattr(settings, "image_grid_pinpoints", None):
        return _best_fit(settings, pinpoints, resample)
    if getattr(settings, "crop_to_patches", False) and settings.max_patches > 1:
        counts = {"min_tiles": settings.min_patches, "max_tiles": settings.max_patches}
        return [TilesOfBestRatio(height=size.height, width=size.width, resample=resample, **counts)]
    steps: list[Step] = [_resize(settings, size, resample)] if settings.do_resize else []
    if hasattr(settings, "do_image_splitting"):
        side = _longest(settings.max_image_size)
        if settings.do_image_splitting:
            steps += [ResizeToMultiple(multiple=side, resample=resample), Tiles(side=side, resample=resample)]
        else:
            steps.append(Resize(height=side, width=side, resample=resample))
    return steps


def _best_fit(settings: Any, pinpoints: Any, resample: int) -> list[Step]:
    size, crop = settings.size, getattr(settings, "crop_size", None)
    height, width = size.height or size.shortest_edge, size.width or size.shortest_edge
    side = (crop.height if crop else None) or size.height or size.shortest_edge
    tiles = TilesOfBestFit(
        sizes=[(int(h), int(w)) for h, w in pinpoints],
        side=side,
        height=height,
        width=width,
        resample=resample,
    )
    return [tiles, _resize(settings, size, resample)] if settings.do_resize else [tiles]


def _longest(size: Any) -> int:
    return int(size["longest_edge"] if isinstance(size, dict) else size.longest_edge)


def _resize(settings: Any, size: Any, resample: int) -> Step:
    patch, merge = getattr(settings, "patch_size", None), getattr(settings, "merge_size", None)
    if merge and size.shortest_edge and size.longest_edge:
        # What is called an edge here is an area.
        return ResizeToArea(
            multiple=patch * merge,
            min_pixels=size.shortest_edge,
            max_pixels=size.longest_edge,
            resample=resample,
        )
    if patch and (size.longest_edge or size.height):
        side = patch["height"] if isinstance(patch, dict) else getattr(patch, "height", patch)
        height, width = size.height or size.longest_edge, size.width or size.longest_edge
        return ResizeWithin(height=height, width=width, multiple=side, resample=resample)
    if size.height and size.width:
        return Resize(height=size.height, width=size.width, resample=resample)
    if size.shortest_edge:
        return ResizeShortestEdge(
            shortest_edge=size.shortest_edge, longest_edge=size.longest_edge, resample=resample
        )
    if size.longest_edge and hasattr(settings, "max_image_size"):
        return ResizeLongestEdge(longest_edge=size.longest_edge, resample=resample)
    raise BadInput(
        f"the image processor resizes to {dict(size)}, and no preprocessing step expresses that; use a checkpoint "
        "with a processor of another kind"
    )
