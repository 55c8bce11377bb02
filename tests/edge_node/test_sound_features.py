"""Sound features equal the models' own feature extractors, and an independent MFCC; long sounds go in windows."""

from __future__ import annotations

import time
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.fft
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)
from transformers.models.clap.feature_extraction_clap import ClapFeatureExtractor
from transformers.models.speech_to_text.feature_extraction_speech_to_text import Speech2TextFeatureExtractor
from transformers.models.wav2vec2.feature_extraction_wav2vec2 import Wav2Vec2FeatureExtractor
from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

from edge_node.mel import mel_filters
from edge_node.sound_features import sound_features, sound_windows
from splitmodel.sound_recipe import sound_difference, sound_recipe
from tests.kit.sounds import KINDS, made_sound
from wire.errors import BadInput, TooLarge
from wire.sound_preprocessing import (
    CosineTransform,
    FitFrames,
    FitSamples,
    KeepRange,
    MelBank,
    MelSpectrogram,
    SoundPreprocessing,
    SoundStep,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values"),
    pytest.mark.filterwarnings("ignore:.*encountered in divide"),  # an extractor's own, on silence
]

# The extractor, and the window in seconds where it has none of its own.
EXACT: dict[str, tuple[Any, float | None]] = {
    "kaldi, per utterance": (Speech2TextFeatureExtractor(), None),
    "kaldi, in a window": (Speech2TextFeatureExtractor(), 2.0),
    "kaldi, means alone": (Speech2TextFeatureExtractor(normalize_vars=False), None),
    "kaldi, not normalised": (Speech2TextFeatureExtractor(do_ceptral_normalize=False, num_mel_bins=40), 3.0),
    "kaldi, of fixed length": (ASTFeatureExtractor(max_length=300), None),
    "kaldi, fixed, not normalised": (ASTFeatureExtractor(max_length=64, num_mel_bins=64, do_normalize=False), None),
    "decibels, four copies": (ClapFeatureExtractor(), None),
    "decibels, one": (ClapFeatureExtractor(truncation="rand_trunc"), None),
    "decibels, repeated": (ClapFeatureExtractor(padding="repeat", max_length_s=5), None),
    "decibels, padded": (ClapFeatureExtractor(padding="pad", frequency_min=50, feature_size=32), None),
    "samples": (Wav2Vec2FeatureExtractor(do_normalize=False), None),
    "samples in a window": (Wav2Vec2FeatureExtractor(do_normalize=False, padding_value=0.5), 2.0),
    "samples, normalised": (Wav2Vec2FeatureExtractor(), None),
    "samples, normalised with the padding": (Wav2Vec2FeatureExtractor(), 2.0),
    "samples, normalised without it": (Wav2Vec2FeatureExtractor(return_attention_mask=True), 2.0),
}  # fmt: skip
LOG10: dict[str, WhisperFeatureExtractor] = {
    "80 mels": WhisperFeatureExtractor(chunk_length=5),
    "128 mels": WhisperFeatureExtractor(chunk_length=5, feature_size=128),
    "8 kHz": WhisperFeatureExtractor(chunk_length=4, sampling_rate=8_000, n_fft=256, hop_length=80),
    "padded with another value": WhisperFeatureExtractor(chunk_length=5, padding_value=0.1),
}
SECONDS = (0.05, 0.7, 3.3)
NOISE = made_sound("noise", 16_000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXACT)
def test_features_are_the_extractors_own(name: str, kind: str) -> None:
    extractor, window_s = EXACT[name]
    recipe = sound_recipe(extractor, window_s)
    for seconds in SECONDS:
        sound = made_sound(kind, int(seconds * recipe.sample_rate_hz), recipe.sample_rate_hz)
        try:
            difference = sound_difference(recipe, extractor, sound, sound_features)
        except BadInput:
            assert kind == "silence"
            assert name.startswith("kaldi")
        else:
            # One unit in the last place of float32 numbers up to 16; nearly all are equal bit for bit.
            assert difference <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOG10)
def test_features_are_those_of_an_extractor_that_computes_in_torch(name: str, kind: str) -> None:
    extractor = LOG10[name]
    recipe = sound_recipe(extractor)
    rate = recipe.sample_rate_hz
    for seconds in SECONDS:
        sound = made_sound(kind, int(seconds * rate), rate)
        padding = extractor.n_samples - len(sound)
        padded = np.pad(sound, (0, padding), constant_values=extractor.padding_value)
        in_numpy = extractor._np_extract_fbank_features(padded[None], "cpu")
        assert np.abs(sound_features(recipe, sound) - in_numpy).max() <= 1e-6
        # torch's own float32 transform is off by this much where 80 dB lie between two frequencies.
        tolerance = 2e-5 if "noise" in kind or kind in ("clicks", "silence") else 1e-4
        assert sound_difference(recipe, extractor, sound, sound_features) <= tolerance


def test_features_of_a_sound_longer_than_the_window_are_those_of_its_first_window() -> None:
    recipe = sound_recipe(LOG10["80 mels"])
    long = made_sound("speech-like", 16_000 * 12)
    assert np.array_equal(sound_features(recipe, long), sound_features(recipe, long[: 16_000 * 5]))
    assert sound_difference(recipe, LOG10["80 mels"], long, sound_features) <= 1e-4


def test_features_depend_on_the_sound() -> None:
    for extractor, window_s in EXACT.values():
        recipe = sound_recipe(extractor, window_s)
        one, other = (made_sound("noise", recipe.sample_rate_hz, seed=seed) for seed in (1, 2))
        assert np.abs(sound_features(recipe, one) - sound_features(recipe, other)).max() > 0.1


def mfcc_recipe(log: Any, *more: SoundStep, norm: bool = True, lifter: float = 0.0) -> SoundPreprocessing:
    """20 coefficients of 40 mels at 16 kHz, without padding."""
    bank = MelBank(num_mels=40, min_hz=20.0, max_hz=7600.0, scale="htk", area_norm=False, in_mel=False)
    spectrogram = MelSpectrogram(
        frame_length=400, hop_length=160, fft_length=512, window="hamming", is_periodic=True, centred=False,
        drops_last_frame=False, removes_mean=False, preemphasis=0.0, power=2, bank=bank, floor=1e-10, log=log,
    )  # fmt: skip
    steps = [spectrogram, *more, CosineTransform(20, is_orthonormal=norm, lifter=lifter)]
    return SoundPreprocessing(16_000, None, steps, "bins_frames")


def mels_by_scipy(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """[mels, frames]: scipy's short-time transform, whose scale is one over the window's sum."""
    window = scipy.signal.get_window("hamming", 400)
    _, _, spectrum = scipy.signal.stft(
        samples.astype(np.float64), 16_000, window, 400, 240, 512, boundary=None, padded=False
    )
    bank = mel_filter_bank(257, 40, 20.0, 7600.0, 16_000, None, "htk")
    return np.maximum(bank.T @ np.abs(spectrum * window.sum()) ** 2, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_mfcc_is_scipys(kind: str) -> None:
    samples = made_sound(kind, 12_345)
    mels = mels_by_scipy(samples)
    decibels = 10 * np.log10(mels)
    expected = scipy.fft.dct(np.maximum(decibels, decibels.max() - 80), axis=0, norm="ortho")[:20]
    got = sound_features(mfcc_recipe("dB", KeepRange(80.0)), samples)[0]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-3 * max(1.0, np.abs(expected).max() / 100)
    plain = sound_features(mfcc_recipe("log", norm=False), samples)[0]
    assert np.allclose(plain, scipy.fft.dct(np.log(mels), axis=0)[:20], rtol=1e-4, atol=1e-2)


def test_lifter_weighs_the_coefficients() -> None:
    plain, liftered = (sound_features(mfcc_recipe("log", lifter=lifter), NOISE)[0] for lifter in (0.0, 22.0))
    weights = 1 + 11 * np.sin(np.pi * np.arange(20) / 22)
    assert np.allclose(liftered, plain * weights[:, None], rtol=1e-5, atol=1e-4)


BANKS = st.builds(
    MelBank,
    num_mels=st.integers(1, 128),
    min_hz=st.floats(0, 500),
    max_hz=st.floats(600, 12_000),
    scale=st.sampled_from(["htk", "slaney", "kaldi"]),
    area_norm=st.booleans(),
    in_mel=st.booleans(),
)


@settings(deadline=None)
@given(BANKS, st.sampled_from([129, 201, 257, 513]), st.sampled_from([8_000, 16_000, 22_050, 48_000]))
def test_mel_filters_are_those_of_transformers(bank: MelBank, num_frequencies: int, rate_hz: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mel_filter_bank(
            num_frequencies, bank.num_mels, bank.min_hz, bank.max_hz, rate_hz,
            "slaney" if bank.area_norm else None, bank.scale, bank.in_mel,
        )  # fmt: skip
    assert np.allclose(mel_filters(bank, num_frequencies, rate_hz), expected, rtol=1e-9, atol=1e-12)


def test_tables_are_made_once_and_nobody_can_write_to_them() -> None:
    bank = MelBank(80, 0.0, 8000.0, "slaney", True, False)
    filters = mel_filters(bank, 201, 16_000)
    assert mel_filters(msgspec.structs.replace(bank), 201, 16_000) is filters
    with pytest.raises(ValueError, match="read-only"):
        filters[0, 0] = 1


@pytest.mark.parametrize("num_samples", [1, 8_000, 79_999, 80_000, 80_001, 240_000])
def test_windows_hold_the_whole_sound_in_order(num_samples: int) -> None:
    recipe = sound_recipe(LOG10["80 mels"])
    sound = made_sound("noise", num_samples)
    windows = sound_windows(recipe, sound)
    assert np.array_equal(np.concatenate(windows), sound)
    assert {len(window) for window in windows[:-1]} <= {80_000}
    assert {sound_features(recipe, window).shape for window in windows} == {(1, 80, 500)}


def test_rest_too_short_for_a_frame_is_no_window_of_its_own() -> None:
    recipe = sound_recipe(Speech2TextFeatureExtractor(), 1.0)
    length = recipe.window_samples
    assert length == 16_000 - (16_000 - 400) % 160  # ends with its last frame
    assert [len(w) for w in sound_windows(recipe, made_sound("noise", 2 * length + 399))] == [length] * 2
    assert [len(w) for w in sound_windows(recipe, made_sound("noise", 2 * length + 400))] == [length] * 2 + [
        400
    ]
    assert [len(w) for w in sound_windows(recipe, made_sound("noise", 100))] == [100]


def test_recipe_without_a_window_takes_the_sound_as_it_is() -> None:
    recipe = sound_recipe(Wav2Vec2FeatureExtractor())
    assert [len(window) for window in sound_windows(recipe, NOISE)] == [len(NOISE)]


@pytest.mark.parametrize("shape", [(0,), (2, 100), ()])
def test_what_is_no_window_of_samples_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"expected \[n\] samples of one channel"):
        sound_features(sound_recipe(LOG10["80 mels"]), np.zeros(shape, np.float32))


def test_sound_too_short_for_a_frame_is_refused() -> None:
    with pytest.raises(
        BadInput, match="has 399 samples at 16000 Hz, and a frame takes 400; give a longer one"
    ):
        sound_features(mfcc_recipe("log"), NOISE[:399])


def test_silence_that_would_be_divided_by_nothing_is_refused() -> None:
    recipe = sound_recipe(Speech2TextFeatureExtractor())
    with pytest.raises(BadInput, match="the sound is silence"):
        sound_features(recipe, NOISE[:400])  # one frame does not vary


def test_recipe_that_makes_too_much_of_a_sound_is_refused_first() -> None:
    recipe = mfcc_recipe("log")
    steps = [msgspec.structs.replace(recipe.steps[0], hop_length=1), *recipe.steps[1:]]
    with pytest.raises(TooLarge, match=r"1,999,601 frames of 40 numbers, and at most 67,108,864"):
        sound_features(msgspec.structs.replace(recipe, steps=steps), np.zeros(2_000_000, np.float32))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3_000), st.integers(1, 2_000), st.sampled_from(["value", "repeats", "whole_repeats"]))
def test_fitted_samples_have_the_length_and_begin_with_the_sound(n: int, wanted: int, pad_with: Any) -> None:
    sound = made_sound("noise", n)
    recipe = SoundPreprocessing(16_000, None, [FitSamples(wanted, pad_with, 0.25)], "samples")
    (fitted,) = sound_features(recipe, sound)
    assert len(fitted) == wanted
    assert np.array_equal(fitted[:n], sound[:wanted])
    if wanted > n:
        periods = {"value": n, "repeats": wanted, "whole_repeats": wanted // n * n}[pad_with]
        assert np.array_equal(fitted[:periods], np.resize(sound, periods))
        assert (fitted[periods:] == np.float32(0.25)).all()


@pytest.mark.parametrize("num_frames", [1, 97, 98, 99, 300])
def test_fitted_frames_are_cut_or_padded(num_frames: int) -> None:
    recipe = mfcc_recipe("log")
    whole = sound_features(recipe, NOISE)
    fitted = sound_features(
        msgspec.structs.replace(recipe, steps=[*recipe.steps, FitFrames(num_frames, -1.0)]), NOISE
    )
    assert fitted.shape == (1, 20, num_frames)
    assert np.array_equal(fitted[:, :, : whole.shape[2]], whole[:, :, :num_frames])
    assert (fitted[:, :, whole.shape[2] :] == -1).all()


def test_half_a_minute_takes_a_fraction_of_a_second() -> None:
    recipe = sound_recipe(WhisperFeatureExtractor())
    sound = made_sound("speech-like", 480_000)
    times_s = []
    for _ in range(5):
        start = time.process_time()
        sound_features(recipe, sound)
        times_s.append(time.process_time() - start)
    assert min(times_s) < 0.1
