"""The processor taken apart: prompts that need no more than the inputs' sizes, and what of the tensors is content."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from partitioner.pictures import SIZES, made_picture
from partitioner.samples import made_samples
from splitmodel.loading import load
from splitmodel.media import Media, MediaInput, size_of
from splitmodel.processing import Processing
from tests.kit.zoo_adapters import adapter_of
from wire.errors import BadInput
from wire.modality import Modality
from wire.sizes import ImageSize


@pytest.fixture
def processor(tiny_checkpoint: Path) -> Any:
    return load(str(tiny_checkpoint)).processor


def processing_of(name: str) -> Processing:
    return adapter_of(name).processing


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_input_that_a_processor_has_no_part_for_is_refused(modality: Modality) -> None:
    processing = Processing(SimpleNamespace(image_token="<image>"))
    with pytest.raises(BadInput, match=f"has no part for {modality}; use a checkpoint"):
        processing.part(modality)


@pytest.mark.parametrize("prompt", ["<image>", "what is <image> this?", "<image><image>"])
def test_prompt_that_holds_the_placeholder_is_refused(processor: Any, prompt: str) -> None:
    with pytest.raises(BadInput, match="the prompt holds '<image>', which stands for the picture"):
        Processing(processor).chat(prompt, ["image"])


def test_prompt_goes_into_the_models_own_chat_template(processor: Any) -> None:
    chat = Processing(processor).chat("What is this?", ["image"])
    assert chat.split() == ["<image>What", "is", "this?"]


def test_every_input_has_a_placeholder_before_the_prompt(processor: Any) -> None:
    assert Processing(processor).chat("Same?", ["image", "image"]).split() == ["<image><image>Same?"]
    processor.chat_template = None
    assert Processing(processor).chat("Same?", ["image", "image"]) == "<image>\n<image>\nSame?"


def test_model_without_a_chat_template_gets_picture_and_prompt_plainly(processor: Any) -> None:
    processor.chat_template = None
    processing = Processing(processor)
    assert processing.chat("What?", ["image"]) == "<image>\nWhat?"
    inputs = processing.prompt_inputs("What?", ["image"], [ImageSize(60, 40)])
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape


@pytest.mark.slow
def test_processor_that_puts_its_placeholder_itself_is_left_to_it() -> None:
    """One of the zoo's has no chat template, and refuses a text that holds the placeholder already."""
    processing = processing_of("florence2")
    assert processing.chat("<CAPTION>", ["image"]) == "<CAPTION>"
    whole = processing.whole("what?", [MediaInput("image", made_picture(0))])
    assert whole["input_ids"].shape[1] > 17


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_blank_picture_gives_the_real_ones_prompt_inputs(processor: Any, width: int, height: int) -> None:
    processing = Processing(processor)
    picture = made_picture(SIZES.index((width, height)))
    assert picture.size == (width, height)
    real = processing.whole("What is this?", [MediaInput("image", picture)])
    blank = processing.prompt_inputs("What is this?", ["image"], [ImageSize(width, height)])
    assert real.keys() - blank.keys() == {"pixel_values"}
    assert all(torch.equal(blank[key], real[key]) for key in blank)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modality"), [("smolvlm", "image"), ("qwen2_vl", "image"), ("qwen2_audio", "audio")]
)
def test_blank_inputs_of_several_sizes_give_the_real_ones_prompt_inputs(
    name: str, modality: Modality
) -> None:
    """In families whose prompt is longer for a larger picture, or a longer sound."""
    processing = processing_of(name)
    several = made_samples(adapter_of(name), modality, 6)[1:]
    sizes = [size_of(media, processing.rate_hz) for media in several]
    for first, second in ((0, 1), (1, 4), (4, 0)):
        media, kinds = [several[first], several[second]], [modality, modality]
        real = processing.whole("Same?", [MediaInput(modality, one) for one in media])
        blank = processing.prompt_inputs("Same?", kinds, [sizes[first], sizes[second]])
        contents = real.keys() - blank.keys()
        assert contents == {processing.part(modality).model_input_names[0]}
        assert all(torch.equal(blank[key], real[key]) for key in blank)
    lengths = {processing.prompt_inputs("?", [modality], [size])["input_ids"].shape for size in sizes}
    assert len(lengths) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modality", "media", "content"),
    [
        ("llava", "image", Image.new("RGB", (50, 50)), ["pixel_values"]),
        ("qwen2_vl", "image", Image.new("RGB", (50, 50)), ["pixel_values"]),
        ("audioflamingo3", "audio", np.ones(9000, np.float32), ["input_features"]),
        ("clip", "text", "a circle", ["input_ids", "attention_mask"]),
    ],
)
def test_content_is_what_says_more_than_a_size(
    name: str, modality: Modality, media: Media, content: list[str]
) -> None:
    """Not ids of a prompt, masks of padding and grids of patches; of a text encoder, its ids and mask are."""
    processing = processing_of(name)
    if modality == "text":
        inputs = processing.encoder_inputs(modality, media)
    else:
        inputs = processing.whole("What?", [MediaInput(modality, media)])
        assert inputs.keys() > set(content)
    assert [key for key, value in inputs.items() if processing.is_content(modality, key, value)] == content


@pytest.mark.slow
def test_prompt_is_taken_by_models_whose_processor_has_a_placeholder() -> None:
    taking = {name: processing_of(name).takes_prompt for name in ("llava", "qwen2_audio", "whisper", "clip")}
    assert taking == {"llava": True, "qwen2_audio": True, "whisper": False, "clip": False}


@pytest.mark.slow
def test_text_is_padded_or_cut_to_what_the_model_reads() -> None:
    processing = processing_of("clip")
    assert processing.text_length == 32
    for text in ("", "a red circle", "circle " * 100):
        assert processing.encoder_inputs("text", text)["input_ids"].shape == (1, 32)
