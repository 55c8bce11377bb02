"""What a sound is, and how one comes out of a file's bytes or an array, within bounds; libsndfile decodes.

WAV, FLAC, Ogg Vorbis, Ogg Opus and MP3. What a file's header says of its length allocates nothing: samples are
read in blocks until they end, and a file that ends before its header says so is refused, not cut short.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from wire.errors import BadInput, TooLarge
from wire.limits import (
    MAX_SAMPLE_RATE_HZ,
    MAX_SOUND_BYTES,
    MAX_SOUND_CHANNELS,
    MAX_SOUND_S,
    MAX_SOUND_SAMPLES,
)
from wire.sizes import SoundSize

Samples = NDArray[np.float32]

FORMATS = "WAV, FLAC, Ogg Vorbis, Ogg Opus, MP3"
# What is left out are codecs of old telephones and games, whose decoders few people test.
_SUBTYPES = (
    *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    *("VORBIS", "OPUS", "MPEG_LAYER_III"),
)
# Resampled twice, a sound may end a few samples earlier or later than was said.
MOST_OFF_S = 0.01
_BLOCK_SAMPLES = 1 << 18  # of all channels, per read
# Programs that write to a pipe do not know the length, and declare 2 GiB less something, or all ones.
_UNKNOWN_LENGTH = 0x7FF0_0000
# Int32 numbers that nobody scaled; the power spectrum of larger ones overflows.
_MAX_AMPLITUDE = 2.0**31
# libsoxr does not come back from 1 Hz to 768,000 Hz; 1 Hz to 400,000 Hz takes it 0.1 s.
_MAX_RATIO = 65_536
_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "uint8": 2.0**7}


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Samples, -1 to 1 where nothing clips, of all channels, and their rate."""

    samples: Samples  # [channels, n]
    sample_rate_hz: int

    def __post_init__(self) -> None:
        _check_size(self.num_channels, self.num_samples, self.sample_rate_hz, "the sound")

    @property
    def num_channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def num_samples(self) -> int:
        """Per channel."""
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate_hz


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """Read from start to end. soundfile seeks after each read of a file that can: inexact in MP3, an error in FLAC."""

    def seekable(self) -> bool:
        return False


def sniff(data: bytes | memoryview) -> str | None:
    """The codec id of bytes that are a sound file already: wav, flac, opus or mp3; None for anything else."""
    container = _container(bytes(data[:64]))
    if container == "OGG":
        return "opus" if b"OpusHead" in bytes(data[:64]) else None
    return container.lower() if container else None


def read_sound(
    data: bytes | memoryview,
    name: str = "the sound",
    *,
    codec_id: str | None = None,
    said: SoundSize | None = None,
) -> Sound:
    """The sound in a file's bytes, of that codec if one is named, and no longer than was said, if that was.

    Raises BadInput or TooLarge, naming it.
    """
    if not data:
        raise BadInput(f"{name} is empty (0 bytes); give a sound")
    if len(data) > MAX_SOUND_BYTES:
        raise TooLarge(f"{name} has {len(data):,} bytes, and at most {MAX_SOUND_BYTES:,} are read; cut it")
    container = _container(bytes(data[:64]))
    if container is None or (codec_id is not None and sniff(data) != codec_id):
        wanted = f"a known format ({FORMATS})" if codec_id is None else codec_id
        raise BadInput(f"{name} is not a sound in {wanted}; convert it")
    if _is_cut(memoryview(data), container):
        raise _damaged(name, "its last part is missing")
    try:
        with _Stream(io.BytesIO(data)) as file:
            _check_kind(file, container, name)
            most = None if said is None else int((said.seconds + MOST_OFF_S) * file.samplerate) + 1
            return Sound(_read(file, name, most), file.samplerate)
    except soundfile.SoundFileError as error:
        raise _damaged(name, f"what it holds cannot be decoded as {container}") from error


def sound_of(array: NDArray[Any], sample_rate_hz: int, name: str = "the sound") -> Sound:
    """A sound from an array [n] or [channels, n]: float, or int16, int32, uint8 at full scale. Raises BadInput."""
    known = array.dtype.kind == "f" or array.dtype.name in _FULL_SCALE
    if not known or array.ndim not in (1, 2):
        raise BadInput(
            f"{name} is an array of shape {array.shape} and dtype {array.dtype}; give float32 or int16 of shape [n] "
            "or [channels, n]"
        )
    rows = array[None] if array.ndim == 1 else array
    _check_size(rows.shape[0], rows.shape[1], sample_rate_hz, name)
    scale = _FULL_SCALE.get(array.dtype.name, 1.0)
    samples = rows.astype(np.float32)
    if array.dtype == np.uint8:
        samples -= np.float32(scale)
    if scale != 1.0:
        samples /= np.float32(scale)
    _check_amplitude(samples, name)
    return Sound(samples, sample_rate_hz)


def to_mono(sound: Sound, rate_hz: int) -> Samples:
    """[n] at that rate: the channels' mean, resampled. Raises TooLarge or BadInput."""
    mono = sound.samples[0] if sound.num_channels == 1 else sound.samples.mean(axis=0, dtype=np.float32)
    mono = resampled(mono, sound.sample_rate_hz, rate_hz)
    if len(mono) == 0:
        raise BadInput(
            f"the sound has {sound.num_samples} samples at {sound.sample_rate_hz} Hz, which is none at {rate_hz} Hz; "
            "give a longer one"
        )
    return np.ascontiguousarray(mono)


def resampled(samples: Samples, rate_hz: int, wanted_hz: int) -> Samples:
    """[n] or [n, channels] at the wanted rate, by libsoxr at its high quality. Raises TooLarge or BadInput."""
    if rate_hz == wanted_hz:
        return samples
    if not 1 / _MAX_RATIO <= wanted_hz / rate_hz <= _MAX_RATIO:
        raise BadInput(
            f"a sound at {rate_hz} Hz cannot be resampled to {wanted_hz} Hz; record it at another rate"
        )
    num_samples = samples.size * wanted_hz // rate_hz
    if num_samples > MAX_SOUND_SAMPLES:
        raise TooLarge(
            f"a sound of {len(samples) / rate_hz:,.0f} s makes {num_samples:,} samples at {wanted_hz} Hz, and at most "
            f"{MAX_SOUND_SAMPLES:,} are taken; cut it"
        )
    return np.asarray(soxr.resample(samples, rate_hz, wanted_hz, quality="HQ"), np.float32)


def _container(head: bytes) -> str | None:
    """By the first bytes alone, so that libsndfile never tries the two dozen other formats that it knows."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS":
        return "OGG"
    # An MPEG frame: eleven ones, then a version, then 01 for layer III.
    is_frame = len(head) > 3 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2
    return "MP3" if head[:3] == b"ID3" or is_frame else None


def _is_cut(data: memoryview, container: str) -> bool:
    """Whether a WAV or Ogg file lacks its end; in the other formats libsndfile itself finds out."""
    if container == "WAV":
        return _wav_is_cut(data)
    return container == "OGG" and _ogg_is_cut(bytes(data[-(1 << 17) :]))


def _wav_is_cut(data: memoryview) -> bool:
    start = 12
    while start + 8 <= len(data):
        chunk_id, num_bytes = struct.unpack_from("<4sI", data, start)
        if chunk_id == b"data":
            return bool(num_bytes < _UNKNOWN_LENGTH and start + 8 + num_bytes > len(data))
        start += 8 + num_bytes + num_bytes % 2
    return True


def _ogg_is_cut(tail: bytes) -> bool:
    """Whether the last page (at most 65,307 bytes) is not marked as the last, or not whole."""
    start = tail.rfind(b"OggS")
    num_segments = tail[start + 26] if 0 <= start < len(tail) - 26 else 0
    segments = tail[start + 27 : start + 27 + num_segments]
    end = start + 27 + num_segments + sum(segments)
    return start < 0 or len(segments) < num_segments or end > len(tail) or not tail[start + 5] & 4


def _check_kind(file: Any, container: str, name: str) -> None:
    # WAVEX is WAV with a longer header.
    if file.format.removesuffix("EX") != container or file.subtype not in _SUBTYPES:
        raise BadInput(
            f"{name} begins as {container} and holds {file.subtype} in {file.format}; convert it to one of {FORMATS} "
            "(PCM or float in WAV)"
        )


def _read(file: Any, name: str, most_frames: int | None) -> Samples:
    # A FLAC encoder that writes to a pipe leaves the length open: libsndfile then claims the most that it can.
    claimed = file.frames if 0 < file.frames < 1 << 62 else None
    _check_size(file.channels, claimed or 1, file.samplerate, name)
    _check_length(claimed or 1, most_frames, name)
    blocks: list[Samples] = []
    num_frames, block_frames = 0, max(1, _BLOCK_SAMPLES // file.channels)
    while claimed is None or num_frames < claimed:  # what follows may be a tag
        wanted = block_frames if claimed is None else min(block_frames, claimed - num_frames)
        block = file.read(wanted, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block)
        num_frames += len(block)
        _check_size(file.channels, num_frames, file.samplerate, name)
        _check_length(num_frames, most_frames, name)
        _check_amplitude(block, name)
    if claimed is not None and num_frames < claimed:
        raise _damaged(name, f"it declares {claimed:,} samples and holds {num_frames:,}")
    _check_size(file.channels, num_frames, file.samplerate, name)
    return _joined(blocks, file.channels, num_frames)


def _joined(blocks: list[Samples], num_channels: int, num_frames: int) -> Samples:
    """[channels, n] of blocks [n, channels], each freed once it is copied."""
    samples = np.empty((num_channels, num_frames), np.float32)
    end = num_frames
    while blocks:
        block = blocks.pop()
        samples[:, end - len(block) : end] = block.T
        end -= len(block)
    return samples


def _check_size(num_channels: int, num_samples: int, sample_rate_hz: int, name: str) -> None:
    if not 1 <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise BadInput(
            f"{name} has a sample rate of {sample_rate_hz:,} Hz; expected 1 to {MAX_SAMPLE_RATE_HZ:,}; convert it"
        )
    if num_channels > MAX_SOUND_CHANNELS:
        raise BadInput(
            f"{name} has {num_channels:,} channels, and at most {MAX_SOUND_CHANNELS:,} are taken; an array is "
            "[channels, n]"
        )
    if num_samples * num_channels == 0:
        raise BadInput(f"{name} holds no samples; record it again")
    if num_samples > MAX_SOUND_S * sample_rate_hz:
        raise TooLarge(
            f"{name} lasts {num_samples / sample_rate_hz:,.0f} s, and at most {MAX_SOUND_S:,} are taken; cut it"
        )
    if num_samples * num_channels > MAX_SOUND_SAMPLES:
        raise TooLarge(
            f"{name} has {num_samples * num_channels:,} samples in {num_channels} channels, and at most "
            f"{MAX_SOUND_SAMPLES:,} are taken; cut it, or give one channel at a lower rate"
        )


def _check_length(num_frames: int, most: int | None, name: str) -> None:
    if most is not None and num_frames > most:
        raise BadInput(
            f"{name} has more than the {most:,} samples that the request allows it; say its length"
        )


def _check_amplitude(samples: Samples, name: str) -> None:
    # A NaN makes the comparison false, too.
    if not float(np.abs(samples).max(initial=0)) <= _MAX_AMPLITUDE:
        raise BadInput(f"{name} has samples that are not finite, or far above full scale; expected -1 to 1")


def _damaged(name: str, reason: str) -> BadInput:
    return BadInput(f"{name} is a damaged or truncated sound ({' '.join(reason.split())}); save it again")
