"""What a bundle promises is checked before it is made, on pictures of five aspect ratios."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from edge_node.preprocess import preprocess
from partitioner.checks import check_one_shape, check_preprocessing, check_prompts
from partitioner.pictures import SIZES, made_pictures
from splitmodel.adapters.generator import GeneratorWithEncoders
from splitmodel.loading import load
from splitmodel.processing import Processing
from wire.errors import BadInput
from wire.preprocessing import ImagePreprocessing

_PICTURES = made_pictures(6)


@pytest.fixture
def adapter(tiny_checkpoint: Path) -> GeneratorWithEncoders:
    return GeneratorWithEncoders(load(str(tiny_checkpoint)))


def test_made_pictures_have_five_aspect_ratios_and_one_is_constant() -> None:
    assert {picture.size for picture in _PICTURES[1:]} == set(SIZES)
    assert np.ptp(np.array(_PICTURES[0])) == 0
    assert all(np.ptp(np.array(picture)) > 50 for picture in _PICTURES[1:])


def test_made_pictures_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    one, same, other = (made_pictures(3, seed)[1:] for seed in (7, 7, 1007))
    assert [p.tobytes() for p in one] == [p.tobytes() for p in same]
    assert not {p.tobytes() for p in one} & {p.tobytes() for p in other}


def test_processor_with_a_fixed_size_passes_every_check(adapter: GeneratorWithEncoders) -> None:
    check_one_shape(adapter, _PICTURES)
    check_preprocessing(adapter, adapter.processing.recipe(), preprocess, _PICTURES)
    check_prompts(adapter.processing, _PICTURES, "What is this?")


def test_processor_that_picks_the_shape_per_picture_is_refused(adapter: GeneratorWithEncoders) -> None:
    settings = adapter.checkpoint.processor.image_processor
    settings.size = type(settings.size)(shortest_edge=48)
    with pytest.raises(BadInput, match="different input shapes"):
        check_one_shape(adapter, _PICTURES)


def test_preprocessing_that_is_off_by_one_bit_is_refused(adapter: GeneratorWithEncoders) -> None:
    def off(recipe: ImagePreprocessing, picture: Image.Image) -> NDArray[np.float32]:
        values = preprocess(recipe, picture)
        if picture.size == SIZES[-1]:
            values[0, 0, 0, 0] = np.nextafter(values[0, 0, 0, 0], np.float32(9))
        return values

    with pytest.raises(BadInput, match="differs on a 500 x 180 picture"):
        check_preprocessing(adapter, adapter.processing.recipe(), off, _PICTURES)


def test_setting_that_the_recipe_does_not_read_is_found_by_comparing(adapter: GeneratorWithEncoders) -> None:
    settings = adapter.checkpoint.processor.image_processor
    settings.do_pad, settings.pad_size = True, type(settings.size)(height=64, width=64)
    with pytest.raises(BadInput, match="does something that the recipe"):
        check_preprocessing(adapter, adapter.processing.recipe(), preprocess, _PICTURES)


def test_prompt_that_depends_on_what_the_picture_shows_is_refused(adapter: GeneratorWithEncoders) -> None:
    class Looks(Processing):
        def whole(self, prompt: str, picture: Image.Image) -> dict[str, Tensor]:
            inputs: Mapping[str, Any] = super().whole(prompt, picture)
            brightness = torch.tensor([[int(np.array(picture).mean() > 0)]])
            return {**inputs, "token_type_ids": brightness}

    with pytest.raises(BadInput, match="depend on what a 200 x 150 picture shows"):
        check_prompts(Looks(adapter.checkpoint.processor), _PICTURES, "What is this?")
