"""What a bundle promises is checked before it is made, on pictures of five aspect ratios."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_node.preprocess import preprocess
from partitioner.checks import Preprocess, check_preprocessing, check_prompts
from partitioner.pictures import SIZES, made_pictures
from partitioner.samples import made_samples
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.loading import load
from splitmodel.media import Media, MediaInput, size_of
from splitmodel.processing import Processing
from splitmodel.recipes import recipe_of
from tests.kit.zoo_adapters import adapter_of, encoders_of
from wire.chain_entries import Preprocessing
from wire.errors import BadInput
from wire.sizes import ImageSize

_PICTURES = made_pictures(6)


@pytest.fixture
def adapter(tiny_checkpoint: Path) -> Adapter:
    return adapter_for(load(str(tiny_checkpoint)))


def test_made_pictures_have_five_aspect_ratios_and_one_is_constant() -> None:
    assert {picture.size for picture in _PICTURES[1:]} == set(SIZES)
    assert np.ptp(np.array(_PICTURES[0])) == 0
    assert all(np.ptp(np.array(picture)) > 50 for picture in _PICTURES[1:])


def test_made_pictures_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    one, same, other = (made_pictures(3, seed)[1:] for seed in (7, 7, 1007))
    assert [p.tobytes() for p in one] == [p.tobytes() for p in same]
    assert not {p.tobytes() for p in one} & {p.tobytes() for p in other}


def check(adapter: Adapter, preprocess: Preprocess) -> None:
    """As the partitioner does."""
    encoder = adapter.trace_encoder("image", _PICTURES[-1])
    recipe, _ = recipe_of(adapter, encoder)
    check_preprocessing(adapter, encoder, recipe, preprocess, _PICTURES, Path())
    check_prompts(adapter, encoder, _PICTURES, "What is this?")


def test_processor_with_a_fixed_size_passes_every_check(adapter: Adapter) -> None:
    check(adapter, preprocess)


def test_preprocessing_that_is_off_by_one_bit_is_refused(adapter: Adapter) -> None:
    def off(recipe: Preprocessing, media: Media, folder: Path) -> Sequence[NDArray[np.generic]]:
        [values] = preprocess(recipe, media, folder)
        if size_of(media) == ImageSize(*SIZES[-1]):
            values[0, 0, 0, 0] = np.nextafter(values[0, 0, 0, 0], np.float32(9))
        return [values]

    with pytest.raises(BadInput, match="differs on an input of 500x180"):
        check(adapter, off)


def test_preprocessing_of_another_shape_is_refused(adapter: Adapter) -> None:
    def flat(recipe: Preprocessing, media: Media, folder: Path) -> Sequence[NDArray[np.generic]]:
        return [values[0] for values in preprocess(recipe, media, folder)]

    with pytest.raises(BadInput, match="differs on an input of 200x150"):
        check(adapter, flat)
    with pytest.raises(BadInput, match="differs on an input of 200x150"):
        check(adapter, lambda *given: [*preprocess(*given), np.zeros(1, np.float32)])


def test_setting_that_the_recipe_does_not_read_is_found_by_comparing(adapter: Adapter) -> None:
    settings = adapter.checkpoint.processor.image_processor
    sides = type(settings.size)
    settings.size, settings.do_pad = sides(height=40, width=40), True
    settings.pad_size = sides(height=48, width=48)
    with pytest.raises(BadInput, match="does something that the recipe of image preprocessing does not"):
        check(adapter, preprocess)


def test_prompt_that_depends_on_what_the_picture_shows_is_refused(adapter: Adapter) -> None:
    class Looks(Processing):
        def whole(self, prompt: str, inputs: Sequence[MediaInput]) -> dict[str, Tensor]:
            made: Mapping[str, Any] = super().whole(prompt, inputs)
            brightness = torch.tensor([[int(np.array(inputs[0].media).mean() > 0)]])
            return {**made, "token_type_ids": brightness}

    encoder = adapter.trace_encoder("image", _PICTURES[-1])
    adapter.processing = Looks(adapter.checkpoint.processor)
    with pytest.raises(BadInput, match="depend on what an input of 200x150 holds"):
        check_prompts(adapter, encoder, _PICTURES, "What is this?")


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "is_same"), [(1 + 5e-5, True), (1 + 5e-4, False)])
def test_sounds_spectrum_may_round_otherwise_and_no_more(gain: float, is_same: bool) -> None:
    """Its sums do in every library; another scale is no rounding."""
    hearing, [encoder] = adapter_of("whisper"), encoders_of("whisper", "audio")
    recipe, _ = recipe_of(hearing, encoder)
    sounds = made_samples(hearing, "audio", 3)

    def off(recipe: Preprocessing, media: Media, folder: Path) -> Sequence[NDArray[np.generic]]:
        return [values * np.float32(gain) for values in preprocess(recipe, media, folder)]

    with contextlib.nullcontext() if is_same else pytest.raises(BadInput, match="of audio preprocessing"):
        check_preprocessing(hearing, encoder, recipe, off, sounds, Path())
