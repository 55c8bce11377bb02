"""A recipe for every modality: the device's preparation is the processor's own, tiles and files included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_node.preprocess import preprocess
from splitmodel.recipes import most_samples, recipe_of
from splitmodel.tensors import to_numpy
from tests.kit.zoo_adapters import adapter_of, encoders_of, untraced
from wire.modality import Modality
from wire.preprocessing import ImagePreprocessing
from wire.sound_preprocessing import SoundPreprocessing
from wire.text_preprocessing import TextPreprocessing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "modality", "kind"),
    [
        ("internvl", "image", ImagePreprocessing),
        ("smolvlm", "image", ImagePreprocessing),
        ("llava_next", "image", ImagePreprocessing),
        ("clip", "text", TextPreprocessing),
        ("clap", "audio", SoundPreprocessing),
        ("moonshine", "audio", SoundPreprocessing),
    ],
)
def test_recipe_gives_what_the_processor_makes_of_inputs_that_it_was_not_made_from(
    name: str, modality: Modality, kind: type, tmp_path: Path
) -> None:
    """Tiles along a first axis of their own; tiles that go through together; ids; features; a wave."""
    adapter, encoder = adapter_of(name), encoders_of(name, modality)[0]
    recipe, files = recipe_of(adapter, encoder)
    assert isinstance(recipe, kind)
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    for media in untraced(name, encoder, 4):
        tiles = adapter.boundary_input(encoder, media)
        made = preprocess(recipe, media, tmp_path)
        assert len(made) == len(encoder.chain.split_points[0].tensors)
        for column, values in zip(zip(*tiles, strict=True), made, strict=True):
            expected = to_numpy(column[0] if encoder.tile_axis is None else torch.stack(column))
            assert values.shape == expected.shape
            assert np.allclose(values, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def test_only_a_text_needs_a_file_and_its_mask_is_made_where_it_is_read() -> None:
    """One of the zoo's reads every text as if it had no padding."""
    assert not recipe_of(adapter_of("clap"), encoders_of("clap", "audio")[0])[1]
    has_mask = {}
    for name in ("clip", "siglip"):
        recipe, files = recipe_of(adapter_of(name), encoders_of(name, "text")[0])
        assert isinstance(recipe, TextPreprocessing)
        assert list(files) == [recipe.tokenizer]
        assert recipe.length == 32
        has_mask[name] = recipe.has_mask
    assert has_mask == {"clip": True, "siglip": False}


def test_sound_of_a_listed_size_is_padded_to_it_unless_the_model_has_its_own_window() -> None:
    listed, windowed = encoders_of("moonshine", "audio"), encoders_of("qwen2_audio", "audio")
    own = {recipe_of(adapter_of("qwen2_audio"), encoder)[0].digest() for encoder in windowed}
    assert len(own) == 1, "the window, whatever size is listed"
    recipes = [recipe_of(adapter_of("moonshine"), encoder)[0] for encoder in listed]
    windows = [recipe.window_samples for recipe in recipes if isinstance(recipe, SoundPreprocessing)]
    assert windows == [16_000, 48_000]


def test_most_samples_is_the_models_window_where_it_has_one() -> None:
    found = {name: most_samples(adapter_of(name)) for name in ("whisper", "clap", "moonshine", "llava")}
    assert found == {"whisper": 32_000, "clap": 32_000, "moonshine": None, "llava": None}
