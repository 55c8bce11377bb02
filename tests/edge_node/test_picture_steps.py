"""Recipes on the device: every kind of processor's own numbers, bit for bit, on pictures of many sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from edge_node.picture_steps import picture_tensor
from partitioner.pictures import made_pictures
from splitmodel.picture_recipe import picture_recipe
from wire.errors import BadInput

_SQUARE: dict[str, Any] = {"size": {"height": 48, "width": 48}}
_SPLITTING: dict[str, Any] = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}}
_WIDE = made_pictures(2)[1].resize((700, 300))
_SMALL = made_pictures(2)[1].resize((50, 40))
# Small, large, tall, wide and tiny; one is a single pixel.
PICTURES = [*made_pictures(6), _WIDE, _SMALL, Image.new("RGB", (1, 1), "red")]

# The processor and the axes of its tensor.
WHOLE = {
    "fixed size": (SiglipImageProcessorPil(**_SQUARE), 4),
    "fixed size, of another family": (Gemma3ImageProcessorPil(**_SQUARE), 4),
    "fixed size, no crop": (ViTImageProcessorPil(**_SQUARE), 4),
    "within a box, to multiples": (PixtralImageProcessorPil(size={"longest_edge": 128}), 4),
    "flat patches": (
        Qwen2VLImageProcessorPil(patch_size=8, size={"shortest_edge": 32 * 32, "longest_edge": 200 * 200}), 2,
    ),
    "one tile that is never cut": (SmolVLMImageProcessorPil(do_image_splitting=False, **_SPLITTING), 5),
    "best fitting size, tiles together": (
        LlavaNextImageProcessorPil(
            size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64},
            image_grid_pinpoints=[[64, 128], [128, 64], [128, 128]],
        ), 5,
    ),
}  # fmt: skip
# And the axis along which the processor lays the tiles.
TILED = {
    "tiles and overview": (SmolVLMImageProcessorPil(**_SPLITTING), 5, 1),
    "grid of the best ratio": (
        GotOcr2ImageProcessorPil(size={"height": 64, "width": 64}, crop_to_patches=True, max_patches=6), 4, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_tensor_is_the_processors_own(kind: str) -> None:
    processor, rank = WHOLE[kind]
    recipe = picture_recipe(processor, rank)
    shapes = set()
    for picture in PICTURES:
        reference = processor(images=picture, return_tensors="np")["pixel_values"]
        made = picture_tensor(recipe, picture)
        assert made.shape == reference.shape
        assert np.array_equal(made, reference), picture.size
        shapes.add(made.shape)
    assert (len(shapes) > 1) == ("fixed" not in kind and "never cut" not in kind)


@pytest.mark.parametrize("kind", TILED)
def test_tiles_are_the_processors_own_along_a_first_axis(kind: str) -> None:
    processor, rank, axis = TILED[kind]
    recipe = picture_recipe(processor, rank, is_tiled=True)
    counts = set()
    for picture in PICTURES:
        reference = processor(images=picture, return_tensors="np")["pixel_values"]
        made = picture_tensor(recipe, picture)
        assert np.array_equal(np.concatenate(list(made), axis=axis), reference), picture.size
        counts.add(len(made))
    assert len(counts) >= 2


def test_sizes_that_no_step_expresses_are_refused_in_one_sentence() -> None:
    with pytest.raises(BadInput, match="no preprocessing step expresses that; use a checkpoint"):
        picture_recipe(ViTImageProcessorPil(size={"max_height": 48, "max_width": 48}))
