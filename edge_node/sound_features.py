"""Sound features: follows a bundle's recipe with numpy alone, as the model's own feature extractor does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_node.mel import cosines, mel_filters, window_of
from wire.errors import BadInput, TooLarge
from wire.sound_preprocessing import (
    MAX_FEATURES,
    MAX_TRANSFORMED,
    CosineTransform,
    FitFrames,
    FitSamples,
    KeepRange,
    MelSpectrogram,
    NormalizeBins,
    NormalizeFeatures,
    ScaleSamples,
    SoundPreprocessing,
    Standardize,
)

Array = NDArray[Any]

_BLOCK_FRAMES = 256  # whose spectra stay in a processor's cache


def sound_windows(recipe: SoundPreprocessing, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The windows of a sound, one after the other, views of it; the last is as long as what is left.

    A rest that is too short for a single frame is left out, as framing leaves it out; never the only window.
    """
    length = recipe.window_samples or max(len(samples), 1)
    windows = [samples[start : start + length] for start in range(0, max(len(samples), 1), length)]
    if len(windows) > 1 and len(windows[-1]) < _min_samples(recipe):
        windows.pop()
    return windows


def sound_features(recipe: SoundPreprocessing, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """One window of a mono sound, [n] at the recipe's rate, to the tensor at split point 0: [1, ...] float32.

    What is longer than a window is cut, as the extractors do: see `sound_windows`. Raises BadInput for a sound that is
    too short or cannot be normalised, TooLarge for one that makes more than MAX_FEATURES numbers.
    """
    if samples.ndim != 1 or len(samples) == 0:
        raise BadInput(
            f"a window has shape {list(samples.shape)}; expected [n] samples of one channel, n > 0"
        )
    values: Array = samples[: recipe.window_samples].astype(np.float32, copy=False)
    for step in recipe.steps:
        values = _apply(step, values, recipe.sample_rate_hz)
    if recipe.layout in ("frames_bins", "copies_frames_bins"):
        values = values.T
    if recipe.layout == "copies_frames_bins":
        values = np.broadcast_to(values, (recipe.copies, *values.shape))
    return np.ascontiguousarray(values[None], dtype=np.float32)


def _min_samples(recipe: SoundPreprocessing) -> int:
    """The fewest samples that make a frame."""
    for step in recipe.steps:
        if isinstance(step, FitSamples):
            return 1
        if isinstance(step, MelSpectrogram):
            return 1 if step.centred else step.frame_length
    return 1


def _apply(step: object, values: Array, sample_rate_hz: int) -> Array:
    match step:
        case FitSamples():
            return _fitted(values, step)
        case ScaleSamples():
            return values * np.float32(step.factor)
        case Standardize():
            return np.asarray((values - values.mean()) / np.sqrt(values.var() + step.epsilon))
        case MelSpectrogram():
            return _mel_spectrogram(step, values, sample_rate_hz)
        case CosineTransform():
            _require_room(values.shape[1], step.num_coefficients)
            return np.asarray(cosines(step, len(values)) @ values, np.float32)
        case KeepRange():
            return np.asarray(np.maximum(values, values.max() - step.range))
        case NormalizeFeatures():
            return np.asarray((values - step.mean) / step.std)
        case NormalizeBins():
            return _normalized_bins(step, values)
        case FitFrames():
            return _fitted_frames(values, step)
        case _:
            raise AssertionError(f"the manifest lets no such step through: {step!r}")


def _fitted(samples: Array, step: FitSamples) -> Array:
    if len(samples) < step.num_samples and step.pad_with != "value":
        num_whole = step.num_samples // len(samples)
        samples = np.tile(samples, num_whole + (step.pad_with == "repeats"))
    missing = max(step.num_samples - len(samples), 0)
    return np.pad(samples[: step.num_samples], (0, missing), constant_values=step.value)


def _mel_spectrogram(step: MelSpectrogram, samples: Array, sample_rate_hz: int) -> Array:
    """[mels, frames] float32. Spectra are rounded to complex64 between two steps in float64, as in transformers."""
    num_frames = step.num_frames(len(samples))
    if num_frames < 1:
        raise BadInput(
            f"the sound has {len(samples)} samples at {sample_rate_hz} Hz, and a frame takes {step.frame_length}; "
            "give a longer one"
        )
    _require_room(num_frames, step.bank.num_mels)
    _require_time(num_frames, step.fft_length)
    if step.centred:
        samples = np.pad(samples, step.frame_length // 2, mode="reflect")
    frames = sliding_window_view(samples, step.frame_length)[:: step.hop_length][:num_frames]
    filters = mel_filters(step.bank, step.fft_length // 2 + 1, sample_rate_hz)
    features = np.empty((step.bank.num_mels, num_frames), np.float32)
    for start in range(0, num_frames, _BLOCK_FRAMES):
        power = _power(step, frames[start : start + _BLOCK_FRAMES])
        mels = np.maximum(step.floor, np.dot(filters.T, power.T))
        features[:, start : start + _BLOCK_FRAMES] = _log(step, mels)
    return features


def _require_room(num_frames: int, num_bins: int) -> None:
    if num_frames * num_bins > MAX_FEATURES:
        raise TooLarge(
            f"the sound makes {num_frames:,} frames of {num_bins} numbers, and at most {MAX_FEATURES:,} numbers are "
            "taken; cut it"
        )


def _require_time(num_frames: int, fft_length: int) -> None:
    if num_frames * fft_length > MAX_TRANSFORMED:
        raise TooLarge(
            f"the bundle's recipe makes {num_frames:,} transforms of {fft_length:,} samples, and at most "
            f"{MAX_TRANSFORMED:,} samples are transformed; give a shorter sound, or another bundle"
        )


def _power(step: MelSpectrogram, frames: Array) -> Array:
    """[frames, frequencies] float64."""
    frames = frames.astype(np.float64)
    if step.removes_mean:
        frames -= frames.mean(axis=1, keepdims=True)
    if step.preemphasis:
        frames[:, 1:] -= step.preemphasis * frames[:, :-1]
        frames[:, 0] *= 1 - step.preemphasis
    frames *= window_of(step.window, step.frame_length, step.is_periodic)
    spectra = np.fft.rfft(frames, step.fft_length).astype(np.complex64)
    real, imaginary = spectra.real.astype(np.float64), spectra.imag.astype(np.float64)
    power: Array = real * real + imaginary * imaginary
    return power if step.power == 2 else np.sqrt(power)


def _log(step: MelSpectrogram, mels: Array) -> Array:
    match step.log:
        case "none":
            return mels
        case "log":
            return np.asarray(np.log(mels))
        case "log10":
            return np.asarray(np.log10(mels))
        case "dB":
            return np.asarray((20.0 if step.power == 1 else 10.0) * np.log10(mels))


def _normalized_bins(step: NormalizeBins, features: Array) -> Array:
    rows = np.ascontiguousarray(features.T)  # [frames, bins]: the order in which the extractors add up
    if step.means:
        rows = rows - rows.mean(axis=0)
    if step.variances:
        deviations = rows.std(axis=0)
        if not (deviations > 0).all():
            raise BadInput(
                "the sound is silence, or so short that its features do not vary, and this model divides by how much "
                "they do; give a longer recording"
            )
        rows = rows / deviations
    return np.asarray(rows.T)


def _fitted_frames(features: Array, step: FitFrames) -> Array:
    _require_room(step.num_frames, len(features))
    missing = max(step.num_frames - features.shape[1], 0)
    return np.pad(features[:, : step.num_frames], ((0, 0), (0, missing)), constant_values=step.value)
