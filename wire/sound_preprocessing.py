"""How a sound becomes the encoder's input, as data: the edge executes it, the cloud compares its digest.

Steps in order: some on samples, at most one that makes mel features of them, some on features. The arithmetic is
that of the feature extractors of transformers; layouts are [n] for samples, [bins, frames] for features.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from wire.canonical import struct_digest
from wire.limits import MAX_SAMPLE_RATE_HZ, MAX_SOUND_SAMPLES

MAX_BINS = 1024
# Of what one window makes, as of a tensor: bounds what a recipe can make of an allowed sound.
MAX_FEATURES = 64 * 1024 * 1024
# Samples of all transforms of one window: half an hour, a frame every 10 ms, each of 16,384. A minute on one core.
MAX_TRANSFORMED = 1 << 32

_NumSamples = Annotated[int, Meta(ge=1, le=MAX_SOUND_SAMPLES)]
_NumFrames = Annotated[int, Meta(ge=1, le=1 << 20)]
_NumBins = Annotated[int, Meta(ge=1, le=MAX_BINS)]
_FftLength = Annotated[int, Meta(ge=2, le=1 << 14)]
_Rate = Annotated[int, Meta(ge=1, le=MAX_SAMPLE_RATE_HZ)]
_Hertz = Annotated[float, Meta(ge=0, le=MAX_SAMPLE_RATE_HZ)]
_Positive = Annotated[float, Meta(gt=0)]

PadWith = Literal["value", "repeats", "whole_repeats"]
WindowName = Literal["hann", "hamming", "povey", "boxcar"]
MelScale = Literal["htk", "slaney", "kaldi"]
Log = Literal["none", "log", "log10", "dB"]


class FitSamples(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="fit_samples"):
    """To exactly so many samples: cut at the end, or padded there.

    `repeats` fills with the sound over and over; `whole_repeats` only as often as it fits whole, then with `value`.
    """

    num_samples: _NumSamples
    pad_with: PadWith
    value: float


class ScaleSamples(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="scale_samples"):
    """Multiplies every sample: by 32768 for what expects 16-bit integers."""

    factor: float


class Standardize(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="standardize"):
    """Zero mean and unit variance over all samples: (x - mean) / sqrt(variance + epsilon)."""

    epsilon: Annotated[float, Meta(ge=0)]


class MelBank(Struct, frozen=True, forbid_unknown_fields=True):
    """Triangles over the spectrum, evenly spaced in mel from `min_hz` to `max_hz`.

    `area_norm` divides each by its width in hertz (Slaney's norm); `in_mel` makes them straight in mel, not in hertz.
    """

    num_mels: _NumBins
    min_hz: _Hertz
    max_hz: _Hertz
    scale: MelScale
    area_norm: bool
    in_mel: bool

    def __post_init__(self) -> None:
        if not self.min_hz < self.max_hz:
            raise ValueError(f"min_hz is {self.min_hz} and max_hz {self.max_hz}; expected min_hz < max_hz")


class MelSpectrogram(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="mel_spectrogram"):
    """Samples to [mels, frames]: log(max(floor, bank @ abs(rfft(window * frame)) ** power)).

    A frame may first lose its mean, then get the pre-emphasis x[i] - p x[i-1] (x[0] for x[-1]). `centred` mirrors
    half a frame at both ends: frame t is centred on sample t * hop. `dB` is 10 log10 of power 2, 20 log10 of power 1.
    """

    frame_length: _FftLength
    hop_length: _NumSamples
    fft_length: _FftLength  # frames are padded with zeros to it
    window: WindowName
    is_periodic: bool
    centred: bool
    drops_last_frame: bool
    removes_mean: bool
    preemphasis: Annotated[float, Meta(ge=0, le=1)]  # 0: none
    power: Literal[1, 2]
    bank: MelBank
    floor: _Positive
    log: Log

    def __post_init__(self) -> None:
        if self.frame_length > self.fft_length:
            raise ValueError(f"frame_length {self.frame_length} is above fft_length {self.fft_length}")

    def num_frames(self, num_samples: int) -> int:
        """Of so many samples; 0 or less if they are too few."""
        padded = num_samples + 2 * (self.frame_length // 2) if self.centred else num_samples
        return 1 + (padded - self.frame_length) // self.hop_length - self.drops_last_frame


class CosineTransform(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="cosine_transform"
):
    """Log-mel features to the first cepstral coefficients (MFCC): DCT-II along the bins.

    `lifter` L multiplies coefficient i by 1 + L/2 sin(pi i / L); 0: none. Davis and Mermelstein 1980.
    """

    num_coefficients: _NumBins
    is_orthonormal: bool
    lifter: Annotated[float, Meta(ge=0)]


class KeepRange(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="keep_range"):
    """Raises what is further than `range` below the largest feature to there."""

    range: _Positive


class NormalizeFeatures(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="normalize_features"
):
    """Subtracts the mean and divides by the standard deviation, the same for all."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.std) and self.std):
            raise ValueError(f"std is {self.std}; expected a number other than 0")


class NormalizeBins(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="normalize_bins"):
    """Cepstral mean and variance normalisation of this sound: each bin over its frames."""

    means: bool
    variances: bool


class FitFrames(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="fit_frames"):
    """To exactly so many frames: cut at the end, or padded there with `value`."""

    num_frames: _NumFrames
    value: float


SampleStep = FitSamples | ScaleSamples | Standardize
FeatureStep = CosineTransform | KeepRange | NormalizeFeatures | NormalizeBins | FitFrames
SoundStep = SampleStep | MelSpectrogram | FeatureStep

# What the encoder takes: samples [1, n], or features [1, bins, frames], [1, frames, bins], [1, copies, frames, bins].
Layout = Literal["samples", "bins_frames", "frames_bins", "copies_frames_bins"]


class SoundPreprocessing(Struct, frozen=True, forbid_unknown_fields=True, tag_field="modality", tag="audio"):
    """Steps executed in order on one window of a mono sound, float32 [n] at `sample_rate_hz`.

    A longer sound is cut into windows of `window_samples`, each an input of its own; None: as long as it is.
    """

    sample_rate_hz: _Rate
    window_samples: _NumSamples | None
    steps: Annotated[list[SoundStep], Meta(max_length=16)]
    layout: Layout
    copies: Annotated[int, Meta(ge=1, le=16)] = 1

    def __post_init__(self) -> None:
        kinds = [_kind(step) for step in self.steps]
        if kinds != sorted(kinds) or kinds.count(1) > 1:
            raise ValueError(
                "steps on samples come first, then at most one mel_spectrogram, then steps on features"
            )
        has_features = 1 in kinds
        if has_features is (self.layout == "samples") or (2 in kinds and not has_features):
            raise ValueError(
                f"layout {self.layout} does not fit the steps; features come from a mel_spectrogram"
            )
        if self.copies > 1 and self.layout != "copies_frames_bins":
            raise ValueError(f"layout {self.layout} has no copies, and {self.copies} are wanted")

    def digest(self) -> str:
        """64 hex digits; raises msgspec.ValidationError for a value out of its bounds."""
        return struct_digest(self)


def _kind(step: SoundStep) -> int:
    if isinstance(step, MelSpectrogram):
        return 1
    return 0 if isinstance(step, FitSamples | ScaleSamples | Standardize) else 2
