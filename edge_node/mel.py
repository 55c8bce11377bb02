"""The tables of sound features, made once per recipe: mel filter banks, windows, cosines.

As transformers' audio_utils makes them, number for number, so that the device needs no transformers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.sound_preprocessing import CosineTransform, MelBank, MelScale, WindowName

Table = NDArray[np.float64]

# One device runs few models; a table may take some MB.
_NUM_KEPT = 8
# Slaney's scale: linear up to 1 kHz (15 mel), then 27 mel for each factor of 6.4.
_SLANEY_HZ, _SLANEY_MEL, _SLANEY_STEP = 1000.0, 15.0, 27.0 / np.log(6.4)


@lru_cache(_NUM_KEPT)
def mel_filters(bank: MelBank, num_frequencies: int, sample_rate_hz: int) -> Table:
    """[num_frequencies, num_mels]: the weight of each frequency of the spectrum in each mel bin."""
    lowest, highest = _to_mel(np.array([bank.min_hz, bank.max_hz]), bank.scale)
    edges: Table = np.linspace(lowest, highest, bank.num_mels + 2)
    if bank.in_mel:
        width_hz = sample_rate_hz / (2 * (num_frequencies - 1))
        frequencies = _to_mel(width_hz * np.arange(num_frequencies, dtype=np.float64), bank.scale)
    else:
        frequencies = np.linspace(0, sample_rate_hz // 2, num_frequencies)
        edges = _to_hertz(edges, bank.scale)
    widths = np.diff(edges)
    slopes = edges[None] - frequencies[:, None]
    filters = np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    if bank.area_norm:
        filters *= 2.0 / (edges[2:] - edges[:-2])
    return _kept(filters)


@lru_cache(_NUM_KEPT)
def window_of(name: WindowName, length: int, is_periodic: bool) -> Table:
    """[length]. Povey's is Hann's to the power of 0.85, which does not reach zero as fast."""
    num_points = length + is_periodic
    match name:
        case "hann":
            window = np.hanning(num_points)
        case "povey":
            window = np.hanning(num_points) ** 0.85
        case "hamming":
            window = np.hamming(num_points)
        case "boxcar":
            window = np.ones(num_points)
    return _kept(window[:length])


@lru_cache(_NUM_KEPT)
def cosines(step: CosineTransform, num_bins: int) -> Table:
    """[coefficients, bins]: the DCT-II, twice the sum as scipy and torchaudio have it, or orthonormal; liftered."""
    order = np.arange(step.num_coefficients)[:, None]
    table = 2.0 * np.cos(np.pi / num_bins * order * (np.arange(num_bins) + 0.5))
    if step.is_orthonormal:
        table *= np.where(order == 0, np.sqrt(0.25 / num_bins), np.sqrt(0.5 / num_bins))
    if step.lifter:
        table *= 1 + step.lifter / 2 * np.sin(np.pi * order / step.lifter)
    return _kept(table)


def _to_mel(hertz: Table, scale: MelScale) -> Table:
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))
    if scale == "kaldi":
        return np.asarray(1127.0 * np.log(1.0 + hertz / 700.0))
    above = np.log(np.maximum(hertz, _SLANEY_HZ) / _SLANEY_HZ) * _SLANEY_STEP
    return np.where(hertz >= _SLANEY_HZ, _SLANEY_MEL + above, 3.0 * hertz / 200.0)


def _to_hertz(mels: Table, scale: MelScale) -> Table:
    if scale == "htk":
        return np.asarray(700.0 * (10 ** (mels / 2595.0) - 1.0))
    if scale == "kaldi":
        return np.asarray(700.0 * (np.exp(mels / 1127.0) - 1.0))
    above = _SLANEY_HZ * np.exp((np.maximum(mels, _SLANEY_MEL) - _SLANEY_MEL) / _SLANEY_STEP)
    return np.where(mels >= _SLANEY_MEL, above, 200.0 * mels / 3.0)


def _kept(table: NDArray[Any]) -> Table:
    """Shared by all who ask, so nobody may write to it."""
    table.flags.writeable = False
    return table
