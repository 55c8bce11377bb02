"""The processor's two halves: a recipe equal to its settings, and prompts that need a picture's size alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from edge_node.preprocess import preprocess
from partitioner.pictures import SIZES, made_picture
from splitmodel.loading import load
from splitmodel.processing import Processing
from wire.errors import BadInput
from wire.preprocessing import CenterCrop, Normalize, Rescale, Resize, ResizeShortestEdge

_SQUARE: dict[str, Any] = {"size": {"height": 48, "width": 48}, "do_center_crop": False}
_MEAN, _STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


@pytest.fixture
def processor(tiny_checkpoint: Path) -> Any:
    return load(str(tiny_checkpoint)).processor


def with_images(**settings: Any) -> Processing:
    """A processing of pictures alone, with CLIP's image processor so set."""
    parts = {
        "image_processor": CLIPImageProcessorPil(**settings),
        "tokenizer": object(),
        "image_token": "<image>",
    }
    return Processing(SimpleNamespace(**parts))


def test_recipe_holds_the_processors_settings() -> None:
    settings = {**_SQUARE, "resample": 2, "rescale_factor": 0.5, "image_mean": _MEAN, "image_std": _STD}
    assert with_images(**settings).recipe().steps == [
        Resize(height=48, width=48, resample=2),
        Rescale(factor=0.5),
        Normalize(mean=_MEAN, std=_STD),
    ]


def test_recipe_of_a_cropping_processor_crops_between_resizing_and_rescaling() -> None:
    settings = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 36}, "resample": 3}
    resize, crop, *_ = with_images(**settings).recipe().steps
    assert resize == ResizeShortestEdge(shortest_edge=40, longest_edge=None, resample=3)
    assert crop == CenterCrop(height=32, width=36)


@pytest.mark.parametrize("off", ["do_resize", "do_rescale", "do_normalize"])
def test_recipe_leaves_out_what_is_switched_off(off: str) -> None:
    assert len(with_images(**_SQUARE, **{off: False}).recipe().steps) == 2


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
    processing = with_images(**settings)
    for seed in range(5):
        picture = made_picture(seed)
        reference = processing.encoder_inputs(picture)["pixel_values"].numpy()
        assert np.array_equal(preprocess(processing.recipe(), picture), reference)


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
        BadInput, match=r"^the image processor [^\n]*; use a checkpoint [^\n]*$|^[^\n]*such a processor$"
    ):
        with_images(**settings).recipe()


@pytest.mark.parametrize("part", ["image_processor", "tokenizer", "image_token"])
def test_processor_without_one_of_its_parts_is_refused(part: str) -> None:
    parts = {"image_processor": object(), "tokenizer": object(), "image_token": "<image>", part: None}
    with pytest.raises(BadInput, match=f"has no {part}; use a checkpoint"):
        Processing(SimpleNamespace(**parts))


@pytest.mark.parametrize("prompt", ["<image>", "what is <image> this?", "<image><image>"])
def test_prompt_that_holds_the_placeholder_is_refused(processor: Any, prompt: str) -> None:
    with pytest.raises(BadInput, match="the prompt holds '<image>'"):
        Processing(processor).chat(prompt)


def test_prompt_goes_into_the_models_own_chat_template(processor: Any) -> None:
    assert Processing(processor).chat("What is this?").split() == ["<image>What", "is", "this?"]


def test_model_without_a_chat_template_gets_picture_and_prompt_plainly(processor: Any) -> None:
    processor.chat_template = None
    processing = Processing(processor)
    assert processing.chat("What?") == "<image>\nWhat?"
    inputs = processing.prompt_inputs("What?", 60, 40)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_blank_picture_gives_the_real_ones_prompt_inputs(processor: Any, width: int, height: int) -> None:
    processing = Processing(processor)
    picture = made_picture(SIZES.index((width, height)))
    assert picture.size == (width, height)
    real = processing.whole("What is this?", picture)
    blank = processing.prompt_inputs("What is this?", width, height)
    assert real.keys() - blank.keys() == {"pixel_values"}
    assert all(torch.equal(blank[key], real[key]) for key in blank)


def test_picture_itself_is_content_and_ids_are_not(processor: Any) -> None:
    processing = Processing(processor)
    inputs = processing.whole("What?", Image.new("RGB", (50, 50)))
    assert [key for key, value in inputs.items() if processing.is_content(key, value)] == ["pixel_values"]
