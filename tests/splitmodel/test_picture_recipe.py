"""A picture's recipe is its image processor's settings, step by step; what no step expresses is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from edge_node.picture_steps import picture_tensor
from partitioner.pictures import made_picture
from splitmodel.picture_recipe import picture_recipe
from wire.errors import BadInput
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Rescale,
    Resize,
    ResizeShortestEdge,
)

_SQUARE: dict[str, Any] = {"size": {"height": 48, "width": 48}, "do_center_crop": False}
_MEAN, _STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def recipe_of(**settings: Any) -> ImagePreprocessing:
    """Of an image processor so set."""
    return picture_recipe(CLIPImageProcessorPil(**settings))


def test_recipe_holds_the_processors_settings() -> None:
    settings = {**_SQUARE, "resample": 2, "rescale_factor": 0.5, "image_mean": _MEAN, "image_std": _STD}
    assert recipe_of(**settings).steps == [
        Resize(height=48, width=48, resample=2),
        Rescale(factor=0.5),
        Normalize(mean=_MEAN, std=_STD),
    ]


def test_recipe_of_a_cropping_processor_crops_between_resizing_and_rescaling() -> None:
    settings = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 36}, "resample": 3}
    resize, crop, *_ = recipe_of(**settings).steps
    assert resize == ResizeShortestEdge(shortest_edge=40, longest_edge=None, resample=3)
    assert crop == CenterCrop(height=32, width=36)


@pytest.mark.parametrize("off", ["do_resize", "do_rescale", "do_normalize"])
def test_recipe_leaves_out_what_is_switched_off(off: str) -> None:
    assert len(recipe_of(**_SQUARE, **{off: False}).steps) == 2


@pytest.mark.parametrize(
    "settings",
    [
        _SQUARE,
        {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}},
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 48, "width": 48}},
        {**_SQUARE, "resample": 0},
        {**_SQUARE, "do_rescale": False},
        {**_SQUARE, "do_normalize": False},
    ],
)
def test_recipe_on_the_device_gives_the_processors_own_numbers(settings: dict[str, Any]) -> None:
    processor = CLIPImageProcessorPil(**settings)
    for seed in range(5):
        picture = made_picture(seed)
        reference = processor(images=picture, return_tensors="np")["pixel_values"]
        assert np.array_equal(picture_tensor(picture_recipe(processor), picture), reference)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"longest_edge": 48}},
        {"size": {"max_height": 48, "max_width": 48}},
        {"size": None},
        {**_SQUARE, "resample": None},
        {**_SQUARE, "image_mean": 0.5, "image_std": 0.5},
        {**_SQUARE, "do_center_crop": True, "crop_size": None},
    ],
)
def test_setting_that_no_step_expresses_is_refused_in_one_sentence(settings: dict[str, Any]) -> None:
    with pytest.raises(
        BadInput, match=r"^the image processor [^\n]*; use a checkpoint [^\n]*$|^[^\n]*of another kind$"
    ):
        recipe_of(**settings)
