"""The model's own feature extractor as a recipe of plain steps, read off its settings; and how far the two differ.

An extractor is known by the settings that it has, never by its name. What it computes beyond its settings (a hop of
160 samples, a range of 8) is what those with such settings do; whoever relies on a recipe measures `sound_difference`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank, window_function

from wire.errors import BadInput
from wire.sound_preprocessing import (
    FitFrames,
    FitSamples,
    KeepRange,
    MelBank,
    MelScale,
    MelSpectrogram,
    NormalizeBins,
    NormalizeFeatures,
    PadWith,
    ScaleSamples,
    SoundPreprocessing,
    SoundStep,
    Standardize,
    WindowName,
)

Features = Callable[[SoundPreprocessing, NDArray[np.float32]], NDArray[np.float32]]

_SCALES: tuple[MelScale, ...] = ("slaney", "htk", "kaldi")
_WINDOWS: tuple[WindowName, ...] = ("hann", "povey", "hamming", "boxcar")
_PAD_WITH: dict[str, PadWith] = {"pad": "value", "repeat": "repeats", "repeatpad": "whole_repeats"}
# Kaldi's defaults, as extractors with Kaldi's settings have them: at any rate.
_KALDI_HOP, _KALDI_PREEMPHASIS, _KALDI_FLOOR, _INT16 = 160, 0.97, 1.192092955078125e-07, 2.0**15
_HANN = {
    "window": "hann",
    "is_periodic": True,
    "centred": True,
    "removes_mean": False,
    "preemphasis": 0.0,
    "power": 2,
}
# Settings of features: an extractor that has none of them gives the samples themselves.
_OF_FEATURES = (
    *("mel_filters", "num_mel_bins", "hop_length", "n_fft", "stride", "win_length", "chunk_length_s"),
    *("overlap", "n_mels"),
)


def sound_recipe(extractor: Any, window_s: float | None = None) -> SoundPreprocessing:
    """The recipe. `window_s` is for extractors that take any length: None leaves them so.

    Raises BadInput for a setting that no step expresses, and for a window beside the extractor's own.
    """
    if window_s is not None and _has_own_window(extractor):
        raise BadInput(
            f"the feature extractor has its own window, and {window_s} s are asked for; leave them out"
        )
    try:
        recipe = _recipe(extractor, window_s)
        recipe.digest()  # checks every step's values
    except (AttributeError, KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise BadInput(
            f"the feature extractor has settings that no sound preprocessing step expresses ({error}); use a "
            "checkpoint whose extractor makes log-mel features or takes samples"
        ) from error
    return recipe


def sound_difference(
    recipe: SoundPreprocessing, extractor: Any, samples: NDArray[np.float32], features: Features
) -> float:
    """The largest absolute difference between `features` of a mono sound and the extractor's own.

    Infinite where the shapes differ, or either is not finite. `features` is the device's code
    (edge_node.sound_features), which this package may not import.
    """
    made = extractor(
        samples, sampling_rate=recipe.sample_rate_hz, return_tensors="np", **_call_settings(recipe, extractor)
    )
    reference = np.asarray(made[extractor.model_input_names[0]])
    values = features(recipe, samples)
    if values.shape != reference.shape:
        return float("inf")
    difference = float(np.abs(values.astype(np.float64) - reference).max())
    return difference if np.isfinite(difference) else float("inf")


def _call_settings(recipe: SoundPreprocessing, extractor: Any) -> dict[str, Any]:
    """How an extractor that takes any length is told the recipe's window."""
    if _has_own_window(extractor) or recipe.window_samples is None:
        return {}
    last = recipe.steps[-1] if recipe.steps else None
    length = last.num_frames if isinstance(last, FitFrames) else recipe.window_samples
    return {"padding": "max_length", "max_length": length, "truncation": True}


def _has_own_window(extractor: Any) -> bool:
    return any(
        _has(extractor, *names) for names in (["n_samples"], ["nb_max_samples"], ["max_length", "mean"])
    )


def _recipe(extractor: Any, window_s: float | None) -> SoundPreprocessing:
    if extractor.padding_side != "right":
        raise ValueError(f"padding_side is {extractor.padding_side!r}")
    if getattr(extractor, "dither", 0.0):
        raise ValueError(f"dither is {extractor.dither}, which is random")
    if _has(extractor, "mel_filters", "n_fft", "hop_length", "n_samples"):
        return _log10_in_range(extractor)
    if _has(
        extractor, "mel_filters", "mel_filters_slaney", "fft_window_size", "nb_max_samples", "truncation"
    ):
        return _decibels(extractor)
    if _has(extractor, "mel_filters", "window", "do_ceptral_normalize"):
        return _kaldi_per_utterance(extractor, window_s)
    if _has(extractor, "mel_filters", "window", "max_length", "mean", "std"):
        return _kaldi_of_fixed_length(extractor)
    if _has(extractor, "do_normalize") and not any(_has(extractor, name) for name in _OF_FEATURES):
        return _raw(extractor, window_s)
    names = ", ".join(sorted(name for name in vars(extractor) if not name.startswith("_")))
    raise ValueError(f"these settings together are of no known kind: {names}")


def _log10_in_range(extractor: Any) -> SoundPreprocessing:
    spectrogram = MelSpectrogram(
        **_centred(extractor.n_fft, extractor.hop_length),
        drops_last_frame=True,
        bank=_bank(extractor.mel_filters, extractor),
        floor=1e-10,
        log="log10",
    )
    return SoundPreprocessing(
        sample_rate_hz=extractor.sampling_rate,
        window_samples=extractor.n_samples,
        steps=[
            FitSamples(extractor.n_samples, "value", float(extractor.padding_value)),
            spectrogram,
            KeepRange(8.0),
            NormalizeFeatures(mean=-4.0, std=4.0),
        ],
        layout="bins_frames",
    )


def _decibels(extractor: Any) -> SoundPreprocessing:
    is_fusion = {"fusion": True, "rand_trunc": False}[extractor.truncation]
    filters = extractor.mel_filters if is_fusion else extractor.mel_filters_slaney
    spectrogram = MelSpectrogram(
        **_centred(extractor.fft_window_size, extractor.hop_length),
        drops_last_frame=False,
        bank=_bank(filters, extractor),
        floor=1e-10,
        log="dB",
    )
    return SoundPreprocessing(
        sample_rate_hz=extractor.sampling_rate,
        window_samples=extractor.nb_max_samples,
        steps=[FitSamples(extractor.nb_max_samples, _PAD_WITH[extractor.padding], 0.0), spectrogram],
        layout="copies_frames_bins",
        copies=4 if is_fusion else 1,
    )


def _kaldi_per_utterance(extractor: Any, window_s: float | None) -> SoundPreprocessing:
    spectrogram = _kaldi(extractor)
    # Cepstral normalisation comes with Kaldi's other custom, samples of 16 bits.
    steps: list[SoundStep] = [ScaleSamples(_INT16), spectrogram]
    if extractor.do_ceptral_normalize:
        steps.append(NormalizeBins(bool(extractor.normalize_means), bool(extractor.normalize_vars)))
    window = None
    if window_s is not None:
        num_frames = spectrogram.num_frames(_samples_of(extractor, window_s))
        window = _samples_of_frames(spectrogram, num_frames)
        steps.append(FitFrames(num_frames, float(extractor.padding_value)))
    return SoundPreprocessing(extractor.sampling_rate, window, steps, "frames_bins")


def _kaldi_of_fixed_length(extractor: Any) -> SoundPreprocessing:
    spectrogram = _kaldi(extractor)
    steps: list[SoundStep] = [spectrogram, FitFrames(extractor.max_length, 0.0)]
    if extractor.do_normalize:
        steps.append(NormalizeFeatures(float(extractor.mean), float(extractor.std) * 2))
    window = _samples_of_frames(spectrogram, extractor.max_length)
    return SoundPreprocessing(extractor.sampling_rate, window, steps, "frames_bins")


def _raw(extractor: Any, window_s: float | None) -> SoundPreprocessing:
    if extractor.feature_size != 1:
        raise ValueError(f"feature_size is {extractor.feature_size}, and samples have 1")
    window = None if window_s is None else _samples_of(extractor, window_s)
    fit: list[SoundStep] = (
        [] if window is None else [FitSamples(window, "value", float(extractor.padding_value))]
    )
    normalise: list[SoundStep] = [Standardize(1e-7)] if extractor.do_normalize else []
    # Without a mask the extractor cannot tell the padding from the sound, and normalises both.
    steps = [*normalise, *fit] if extractor.return_attention_mask else [*fit, *normalise]
    return SoundPreprocessing(extractor.sampling_rate, window, steps, "samples")


def _centred(frame_length: int, hop_length: int) -> dict[str, Any]:
    length = {"frame_length": frame_length, "hop_length": hop_length, "fft_length": frame_length}
    return length | _HANN


def _kaldi(extractor: Any) -> MelSpectrogram:
    name, is_periodic = _window(np.asarray(extractor.window))
    return MelSpectrogram(
        frame_length=len(extractor.window),
        hop_length=_KALDI_HOP,
        fft_length=2 * (len(extractor.mel_filters) - 1),
        window=name,
        is_periodic=is_periodic,
        centred=False,
        drops_last_frame=False,
        removes_mean=True,
        preemphasis=_KALDI_PREEMPHASIS,
        power=2,
        bank=_bank(extractor.mel_filters, extractor),
        floor=_KALDI_FLOOR,
        log="log",
    )


def _bank(filters: Any, extractor: Any) -> MelBank:
    """The parameters in use that make these filters; of two scales that differ by rounding alone, the nearer."""
    filters, rate = np.asarray(filters), extractor.sampling_rate
    lowest = dict.fromkeys(float(hz) for hz in (getattr(extractor, "frequency_min", 0), 0, 20))
    highest = dict.fromkeys(float(hz) for hz in (getattr(extractor, "frequency_max", 8000), 8000, rate // 2))
    made: list[tuple[float, MelBank]] = []
    for low, high, scale, norm, in_mel in product(lowest, highest, _SCALES, ("slaney", None), (True, False)):
        if low < high:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of bins that no frequency falls into
                table = mel_filter_bank(*filters.shape, low, high, rate, norm, scale, in_mel)
            bank = MelBank(filters.shape[1], low, high, scale, norm is not None, in_mel)
            made.append((float(np.abs(table - filters).max()), bank))
    difference, nearest = min(made, key=lambda pair: pair[0])
    if not difference <= 1e-9 * np.abs(filters).max():
        raise ValueError(f"no mel scale makes its {filters.shape[1]} filters of {len(filters)} frequencies")
    return nearest


def _window(window: NDArray[Any]) -> tuple[WindowName, bool]:
    for name, is_periodic in product(_WINDOWS, (False, True)):
        if np.allclose(window_function(len(window), name, is_periodic), window, rtol=1e-9, atol=1e-12):
            return name, is_periodic
    raise ValueError(f"its window of {len(window)} samples is none of {', '.join(_WINDOWS)}")


def _samples_of_frames(spectrogram: MelSpectrogram, num_frames: int) -> int:
    return (num_frames - 1) * spectrogram.hop_length + spectrogram.frame_length


def _samples_of(extractor: Any, window_s: float) -> int:
    num_samples: int = round(window_s * extractor.sampling_rate)
    return num_samples


def _has(extractor: Any, *names: str) -> bool:
    return all(getattr(extractor, name, None) is not None for name in names)
