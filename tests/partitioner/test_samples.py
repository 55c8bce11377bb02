"""Made inputs: the same for a seed, of several sizes, the first constant, none longer than what a model hears whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from partitioner.pictures import made_pictures
from partitioner.samples import default_sizes, fitted, made_samples
from splitmodel.media import size_of
from splitmodel.processing import Processing
from wire.modality import Modality
from wire.sizes import ImageSize, SoundSize

RATE_HZ = 16_000


def hearing(extractor: Any) -> Any:
    """As much of an adapter as samples are made for."""
    return SimpleNamespace(processing=Processing(SimpleNamespace(feature_extractor=extractor)))


WINDOWED = hearing(WhisperFeatureExtractor(feature_size=16, chunk_length=2))
ANY_LENGTH = hearing(Wav2Vec2FeatureExtractor(do_normalize=False))


def as_bytes(media: Any) -> bytes:
    return media.encode() if isinstance(media, str) else np.asarray(media).tobytes()


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_same_seed_gives_the_same_inputs_and_another_others(modality: Modality) -> None:
    one, same, other = (
        [as_bytes(media) for media in made_samples(ANY_LENGTH, modality, 6, seed)] for seed in (7, 7, 1007)
    )
    assert one == same
    assert len(set(one)) == len(one)
    assert one[0] == other[0], "the constant one"
    assert not set(one[1:]) & set(other[1:])


def test_pictures_are_the_partitioners() -> None:
    made = made_samples(ANY_LENGTH, "image", 4, seed=3)
    assert [as_bytes(one) for one in made] == [as_bytes(one) for one in made_pictures(4, seed=3)]


def test_sounds_are_from_a_click_to_several_windows_and_within_full_scale() -> None:
    made = [np.asarray(sound) for sound in made_samples(ANY_LENGTH, "audio", 6)]
    assert [len(sound) / RATE_HZ for sound in made] == [1.0, 0.1, 1.0, 2.5, 4.0, 6.0]
    assert not made[0].any()
    for sound in made[1:]:
        assert sound.dtype == np.float32
        assert 0.02 < float(np.abs(sound).max()) <= 2.0
        assert float(sound.std()) > 0.01


def test_no_sound_is_longer_than_the_models_window() -> None:
    lengths = [len(np.asarray(sound)) for sound in made_samples(WINDOWED, "audio", 6)]
    assert max(lengths) == 2 * RATE_HZ
    assert len(set(lengths)) > 2


def test_first_text_is_empty_and_the_others_have_several_words() -> None:
    first, *others = (str(text) for text in made_samples(ANY_LENGTH, "text", 20))
    assert first == ""
    lengths = {len(text.split()) for text in others}
    assert min(lengths) >= 1
    assert len(lengths) > 4


@pytest.mark.parametrize("size", [ImageSize(90, 30), ImageSize(30, 90), ImageSize(700, 700)])
def test_picture_is_brought_to_a_size(size: ImageSize) -> None:
    picture = Image.new("RGB", (40, 20), "red")
    made = fitted(picture, size)
    assert isinstance(made, Image.Image)
    assert size_of(made) == size
    assert made.getpixel((size.width // 2, size.height // 2)) == (255, 0, 0)


def test_sound_is_cut_or_followed_by_silence() -> None:
    sound = np.ones(100, np.float32)
    shorter, longer = (np.asarray(fitted(sound, SoundSize(n, RATE_HZ))) for n in (60, 130))
    assert shorter.tolist() == [1.0] * 60
    assert longer.tolist() == [1.0] * 100 + [0.0] * 30
    assert longer.dtype == np.float32


def test_input_of_any_size_stays_as_it_is() -> None:
    for media in [*made_samples(ANY_LENGTH, "image", 2), "a text"]:
        assert fitted(media, None) is media
    assert fitted("a text", ImageSize(8, 8)) == "a text"


def test_default_sizes_reach_to_what_the_model_hears_whole() -> None:
    assert [str(size) for size in default_sizes(ANY_LENGTH, "image")] == ["640x480", "480x640", "512x512"]
    assert [str(size) for size in default_sizes(WINDOWED, "audio")] == [
        "4000@16000", "8000@16000", "32000@16000",
    ]  # fmt: skip
    longest = default_sizes(ANY_LENGTH, "audio")[-1]
    assert longest == SoundSize(16 * RATE_HZ, RATE_HZ)
