"""The media codecs of sounds: FLAC, which keeps every 16-bit sample, and Opus at a bit rate; libsndfile encodes."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from wire.errors import BadInput, UnknownCodec
from wire.media.sounds import Sound, read_sound, resampled
from wire.modality import Modality
from wire.sizes import Size, SoundSize

_FLAC_MAX_CHANNELS = 8
_FLAC_MAX_RATE_HZ = 655_350
_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
_OPUS_MAX_CHANNELS = 2
# libsndfile takes a level of 0 to 1 for a bit rate of 256 to 6 kbit/s per channel (RFC 7845 names the same range).
_OPUS_KBPS = (6, 256)


class Flac:
    """Lossless for what has as many bits as the setting; other samples are rounded to them, and clipped at full scale.

    Source: RFC 9639.
    """

    codec_id = "flac"
    modality: Modality = "audio"
    settings: tuple[str, ...] = ("16", "24")  # bits per sample

    def encode(self, media: Sound, setting: str = "16") -> bytes:
        """Raises UnknownCodec for other bits, BadInput for more channels or a higher rate than FLAC has."""
        _check_setting(self.codec_id, setting, self.settings)
        if media.num_channels > _FLAC_MAX_CHANNELS or media.sample_rate_hz > _FLAC_MAX_RATE_HZ:
            raise BadInput(
                f"flac holds at most {_FLAC_MAX_CHANNELS} channels at {_FLAC_MAX_RATE_HZ:,} Hz, not "
                f"{media.num_channels} at {media.sample_rate_hz:,}; mix and resample the sound first"
            )
        return _written(_as_integers(media, int(setting)), media.sample_rate_hz, "FLAC", f"PCM_{setting}")

    def decode(self, data: bytes | memoryview, said: Size | None = None) -> Sound:
        """Raises BadInput or TooLarge."""
        return read_sound(data, codec_id=self.codec_id, said=said if isinstance(said, SoundSize) else None)


class Opus:
    """Lossy, at a variable bit rate whose mean is the setting; Ogg adds about 1 kbit/s, and 1 kB once.

    Opus knows five rates: another one is resampled to the next above, or to 48 kHz. Source: RFC 6716, RFC 7845.
    """

    codec_id = "opus"
    modality: Modality = "audio"
    settings: tuple[str, ...] = ("24", "12", "16", "32", "48")  # kbit/s per channel

    def encode(self, media: Sound, setting: str = "24") -> bytes:
        """Raises UnknownCodec for another bit rate, BadInput or TooLarge for a sound that it cannot hold."""
        _check_setting(self.codec_id, setting, self.settings)
        if media.num_channels > _OPUS_MAX_CHANNELS:
            raise BadInput(
                f"opus holds at most {_OPUS_MAX_CHANNELS} channels, not {media.num_channels}; mix the sound first"
            )
        lowest, highest = _OPUS_KBPS
        level = 1 - (int(setting) - lowest) / (highest - lowest)
        rate_hz = next((rate for rate in _OPUS_RATES_HZ if rate >= media.sample_rate_hz), _OPUS_RATES_HZ[-1])
        samples = resampled(media.samples.T, media.sample_rate_hz, rate_hz)
        return _written(samples, rate_hz, "OGG", "OPUS", level)

    def decode(self, data: bytes | memoryview, said: Size | None = None) -> Sound:
        """Raises BadInput or TooLarge."""
        return read_sound(data, codec_id=self.codec_id, said=said if isinstance(said, SoundSize) else None)


def _check_setting(codec_id: str, setting: str, settings: tuple[str, ...]) -> None:
    if setting not in settings:
        raise UnknownCodec(
            f"codec {codec_id} has no setting {setting[:32]!r}; expected one of {', '.join(settings)}"
        )


def _as_integers(sound: Sound, bits: int) -> NDArray[np.int16] | NDArray[np.int32]:
    """[n, channels]. libsndfile itself would scale by one less than it divides by when it reads."""
    scaled = np.rint(sound.samples.T.astype(np.float64) * 2.0 ** (bits - 1))
    np.clip(scaled, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1, out=scaled)
    # libsndfile takes the upper 24 of 32 bits.
    return scaled.astype(np.int16) if bits == 16 else scaled.astype(np.int32) << 8


def _written(
    samples: NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int32],
    rate_hz: int,
    container: str,
    subtype: str,
    level: float | None = None,
) -> bytes:
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, rate_hz, subtype, format=container, compression_level=level)
    except soundfile.SoundFileError as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"the sound cannot be written as {container} {subtype} ({reason}); resample it"
        ) from error
    return buffer.getvalue()
