"""Sounds for the tests: made ones of many kinds, files of every format, and headers that lie."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile
from numpy.typing import NDArray

KINDS = ("noise", "quiet noise", "sweep", "tone", "clicks", "speech-like", "silence")
# What is read, as libsndfile names it.
FILES = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT")]
FILES += [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]


def made_sound(kind: str, num_samples: int, rate_hz: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """[num_samples] of one of KINDS."""
    rng, t = np.random.default_rng(seed), np.arange(num_samples) / rate_hz
    match kind:
        case "noise" | "quiet noise":
            made = (0.1 if kind == "noise" else 1e-4) * rng.standard_normal(num_samples)
        case "sweep":
            made = 0.5 * np.sin(2 * np.pi * (50 + 0.2 * rate_hz * t / max(t[-1], 1e-9)) * t)
        case "tone":
            made = 0.7 * np.sin(2 * np.pi * 440 * t)
        case "clicks":
            made = np.where(np.arange(num_samples) % (rate_hz // 7) == 0, 0.9, 0.0)
        case "speech-like":
            voice = sum(np.sin(2 * np.pi * hz * t) / n for n, hz in enumerate((120, 240, 700, 1200, 2500), 1))
            made = 0.1 * voice * (np.sin(5 * np.pi * t) > -0.3) + 0.002 * rng.standard_normal(num_samples)
        case _:
            made = np.zeros(num_samples)
    return np.asarray(made, np.float32)


def sound_file(
    samples: NDArray[np.float32], rate_hz: int = 16_000, container: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    """A file of samples [n] or [n, channels]."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype, format=container)
    return buffer.getvalue()


def wav_that_claims(num_bytes: int, data: bytes) -> bytes:
    """That WAV file, whose header says another length."""
    return data[:40] + struct.pack("<I", num_bytes) + data[44:]


def flac_that_claims(num_samples: int, data: bytes) -> bytes:
    """That FLAC file, whose header says another length: 36 bits of its STREAMINFO."""
    kept = int.from_bytes(data[18:26], "big") >> 36 << 36
    return data[:18] + (kept | num_samples).to_bytes(8, "big") + data[26:]
