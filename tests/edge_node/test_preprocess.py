"""Preprocessing equals the models' own image processors bit for bit, on pictures of any shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from edge_node.preprocess import preprocess
from splitmodel.picture_recipe import picture_recipe
from tests.kit.pictures import textured
from wire.preprocessing import ImagePreprocessing, Pad

# Five aspect ratios; then pictures smaller than the crop, tiny, of one pixel, and of odd differences to it.
SIZES = [
    (120, 300),
    (240, 320),
    (256, 256),
    (400, 300),
    (500, 180),
    (20, 31),
    (31, 20),
    (7, 3),
    (1, 1),
    (49, 47),
]


PROCESSORS = {
    "resize": CLIPImageProcessorPil(size={"height": 48, "width": 48}, do_center_crop=False),
    "resize, not square": CLIPImageProcessorPil(size={"height": 40, "width": 56}, do_center_crop=False),
    "shortest edge and crop": CLIPImageProcessorPil(
        size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}
    ),
    "crop larger than the picture": CLIPImageProcessorPil(
        size={"shortest_edge": 20}, crop_size={"height": 48, "width": 48}
    ),
    "crop without resize": CLIPImageProcessorPil(do_resize=False, crop_size={"height": 33, "width": 48}),
    "shortest and longest edge": CLIPImageProcessorPil(
        size={"shortest_edge": 48, "longest_edge": 60}, crop_size={"height": 48, "width": 48}
    ),
    "nearest": CLIPImageProcessorPil(size={"height": 48, "width": 48}, do_center_crop=False, resample=0),
    "siglip": SiglipImageProcessorPil(size={"height": 48, "width": 48}),
    "no normalisation": CLIPImageProcessorPil(
        size={"height": 48, "width": 48}, do_center_crop=False, do_normalize=False
    ),
    "no rescale": CLIPImageProcessorPil(size={"height": 48, "width": 48}, do_center_crop=False, do_rescale=False),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_values_equal_the_models_own_processors(name: str, size: tuple[int, int]) -> None:
    picture = textured(*size, seed=sum(size))
    expected = np.asarray(PROCESSORS[name](images=picture, return_tensors="np")["pixel_values"])
    (got,) = preprocess(picture_recipe(PROCESSORS[name], 4), picture, Path())
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)


def test_padding_is_on_the_right_and_below() -> None:
    recipe = ImagePreprocessing(steps=[Pad(height=3, width=5, fill=9)])
    (values,) = preprocess(recipe, Image.new("RGB", (4, 2), (1, 2, 3)), Path())
    assert values[0, :, :2, :4].reshape(3, -1).tolist() == [[1] * 8, [2] * 8, [3] * 8]
    assert set(values[0, :, 2, :].ravel().tolist()) == {9}
    assert set(values[0, :, :, 4].ravel().tolist()) == {9}
