"""A feature extractor as a recipe: read off its settings, refused where none expresses it, and measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoFeatureExtractor
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)
from transformers.models.clap.feature_extraction_clap import ClapFeatureExtractor
from transformers.models.clvp.feature_extraction_clvp import ClvpFeatureExtractor
from transformers.models.encodec.feature_extraction_encodec import EncodecFeatureExtractor
from transformers.models.seamless_m4t.feature_extraction_seamless_m4t import SeamlessM4TFeatureExtractor
from transformers.models.speech_to_text.feature_extraction_speech_to_text import Speech2TextFeatureExtractor
from transformers.models.speecht5.feature_extraction_speecht5 import SpeechT5FeatureExtractor
from transformers.models.wav2vec2.feature_extraction_wav2vec2 import Wav2Vec2FeatureExtractor
from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

from edge_node.sound_features import sound_features
from splitmodel.sound_recipe import sound_difference, sound_recipe
from tests.kit.sounds import made_sound
from wire.errors import BadInput
from wire.sound_preprocessing import (
    FitFrames,
    FitSamples,
    KeepRange,
    MelBank,
    MelSpectrogram,
    NormalizeBins,
    NormalizeFeatures,
    ScaleSamples,
    SoundPreprocessing,
    Standardize,
)

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")


def test_log10_recipe_holds_the_extractors_settings() -> None:
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=10, hop_length=200, n_fft=512)
    bank = MelBank(128, 0.0, 8000.0, "slaney", area_norm=True, in_mel=False)
    spectrogram = MelSpectrogram(
        frame_length=512, hop_length=200, fft_length=512, window="hann", is_periodic=True, centred=True,
        drops_last_frame=True, removes_mean=False, preemphasis=0.0, power=2, bank=bank, floor=1e-10, log="log10",
    )  # fmt: skip
    steps = [FitSamples(160_000, "value", 0.0), spectrogram, KeepRange(8.0), NormalizeFeatures(-4.0, 4.0)]
    assert sound_recipe(extractor) == SoundPreprocessing(16_000, 160_000, steps, "bins_frames")


def test_decibel_recipe_takes_the_filters_that_its_truncation_goes_with() -> None:
    settings: dict[str, Any] = {"frequency_min": 50, "frequency_max": 14_000, "max_length_s": 7}
    fusion = sound_recipe(ClapFeatureExtractor(**settings, truncation="fusion"))
    single = sound_recipe(ClapFeatureExtractor(**settings, truncation="rand_trunc", padding="repeat"))
    assert (fusion.copies, single.copies) == (4, 1)
    assert fusion.steps[0] == FitSamples(7 * 48_000, "whole_repeats", 0.0)
    assert single.steps[0] == FitSamples(7 * 48_000, "repeats", 0.0)
    banks = [
        recipe.steps[1].bank for recipe in (fusion, single) if isinstance(recipe.steps[1], MelSpectrogram)
    ]
    assert banks == [
        MelBank(64, 50.0, 14_000.0, "htk", area_norm=False, in_mel=False),
        MelBank(64, 50.0, 14_000.0, "slaney", area_norm=True, in_mel=False),
    ]


def test_kaldi_recipes_tell_the_two_customs_apart() -> None:
    utterance = sound_recipe(Speech2TextFeatureExtractor(normalize_vars=False), 1.0)
    fixed = sound_recipe(ASTFeatureExtractor(max_length=100, mean=-3.0, std=2.0))
    scale, spectrogram, *rest = utterance.steps
    assert (scale, rest) == (ScaleSamples(32768.0), [NormalizeBins(True, False), FitFrames(98, 0.0)])
    assert isinstance(spectrogram, MelSpectrogram)
    assert (spectrogram.window, spectrogram.bank.scale, spectrogram.bank.in_mel) == ("povey", "kaldi", True)
    assert isinstance(fixed.steps[0], MelSpectrogram)
    assert (fixed.steps[0].window, fixed.steps[0].is_periodic) == ("hann", False)
    assert fixed.steps[1:] == [FitFrames(100, 0.0), NormalizeFeatures(-3.0, 4.0)]
    assert fixed.window_samples == 99 * 160 + 400


@pytest.mark.parametrize(
    ("settings", "window_s", "steps"),
    [
        ({"do_normalize": False}, None, []),
        ({}, None, [Standardize(1e-7)]),
        ({}, 0.5, [FitSamples(8_000, "value", 0.0), Standardize(1e-7)]),
        ({"return_attention_mask": True}, 0.5, [Standardize(1e-7), FitSamples(8_000, "value", 0.0)]),
    ],
)
def test_recipe_of_samples_pads_before_or_after_it_normalises(
    settings: dict[str, Any], window_s: float | None, steps: list[Any]
) -> None:
    recipe = sound_recipe(Wav2Vec2FeatureExtractor(**settings), window_s)
    window = None if window_s is None else 8_000
    assert recipe == SoundPreprocessing(16_000, window, steps, "samples")


@pytest.mark.parametrize(
    "extractor",
    [WhisperFeatureExtractor(), ClapFeatureExtractor(), ASTFeatureExtractor(), Speech2TextFeatureExtractor(),
     Wav2Vec2FeatureExtractor()],
    ids=lambda extractor: type(extractor).__name__,
)  # fmt: skip
def test_recipe_of_an_extractor_that_was_saved_and_loaded_is_the_same(extractor: Any, tmp_path: Path) -> None:
    extractor.save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert sound_recipe(loaded).digest() == sound_recipe(extractor).digest()


@pytest.mark.parametrize(
    "extractor",
    [
        WhisperFeatureExtractor(dither=1e-5),
        WhisperFeatureExtractor(padding_side="left"),
        WhisperFeatureExtractor(padding_value=None),
        WhisperFeatureExtractor(chunk_length=0),
        ClapFeatureExtractor(truncation="middle"),
        ClapFeatureExtractor(padding="mirror"),
        Speech2TextFeatureExtractor(dither=1.0),
        Wav2Vec2FeatureExtractor(feature_size=2),
        Wav2Vec2FeatureExtractor(sampling_rate=0),
        EncodecFeatureExtractor(),
        SeamlessM4TFeatureExtractor(),
        SpeechT5FeatureExtractor(),
        SimpleNamespace(),
        SimpleNamespace(padding_side="right", sampling_rate=16_000),
        None,
    ],
    ids=lambda extractor: type(extractor).__name__,
)
def test_setting_that_no_step_expresses_is_refused_in_one_sentence(extractor: Any) -> None:
    with pytest.raises(
        BadInput, match=r"^the feature extractor has settings that no [^\n]*\); use a checkpoint [^\n]*$"
    ):
        sound_recipe(extractor)


@pytest.mark.parametrize("what", ["mel_filters", "window"])
def test_table_that_no_parameters_make_is_refused(what: str) -> None:
    extractor = Speech2TextFeatureExtractor()
    table = getattr(extractor, what).copy()
    table[len(table) // 2] *= 1.01
    setattr(extractor, what, table)
    with pytest.raises(
        BadInput, match=r"no mel scale makes its 80 filters|its window of 400 samples is none of"
    ):
        sound_recipe(extractor)


@pytest.mark.parametrize(
    "extractor", [WhisperFeatureExtractor(), ClapFeatureExtractor(), ASTFeatureExtractor()]
)
def test_window_beside_the_extractors_own_is_refused(extractor: Any) -> None:
    with pytest.raises(BadInput, match=r"has its own window, and 3\.0 s are asked for; leave them out"):
        sound_recipe(extractor, 3.0)


def test_difference_shows_what_a_recipe_does_not_express() -> None:
    sound = made_sound("speech-like", 16_000)
    extractor = WhisperFeatureExtractor(chunk_length=2)
    recipe = sound_recipe(extractor)
    assert sound_difference(recipe, extractor, sound, sound_features) < 1e-4
    other = sound_recipe(WhisperFeatureExtractor(chunk_length=2, padding_value=0.01))
    assert sound_difference(other, extractor, sound, sound_features) > 0.01
    longer = sound_recipe(WhisperFeatureExtractor(chunk_length=3))
    assert sound_difference(longer, extractor, sound, sound_features) == float("inf")
    # It has the settings of one kind, and divides by norms of its own as well.
    unlike = ClvpFeatureExtractor()
    assert sound_difference(sound_recipe(unlike), unlike, made_sound("tone", 22_050), sound_features) > 0.01


def test_difference_of_numbers_that_are_none_is_infinite() -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    recipe = sound_recipe(extractor)
    sound = np.full(100, np.nan, np.float32)
    assert sound_difference(recipe, extractor, sound, sound_features) == float("inf")


def test_recipe_is_read_off_an_extractors_settings_whatever_its_class() -> None:
    class Renamed(WhisperFeatureExtractor):
        pass

    assert sound_recipe(Renamed()) == sound_recipe(WhisperFeatureExtractor())
