"""FLAC keeps what has its bits, Opus keeps its bit rate; neither takes what it cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kit.sounds import made_sound, sound_file
from wire.errors import BadInput, UnknownCodec
from wire.media.base import MediaCodec
from wire.media.sound_codecs import Flac, Opus
from wire.media.sounds import Sound, read_sound, sniff, sound_of

CODECS: list[MediaCodec] = [Flac(), Opus()]
ALL_OF_16_BITS = sound_of(np.arange(-32768, 32768, dtype=np.int16), 16_000)
VOICE = sound_of(made_sound("speech-like", 32_000), 16_000)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_every_setting_comes_back_as_a_sound_of_the_same_size(codec: MediaCodec) -> None:
    for setting in codec.settings:
        data = codec.encode(VOICE, setting)
        decoded = codec.decode(data)
        assert sniff(data) == codec.codec_id
        assert (decoded.samples.shape, decoded.sample_rate_hz) == (VOICE.samples.shape, 16_000)


@pytest.mark.parametrize("setting", Flac.settings)
def test_flac_of_16_bit_samples_is_exact(setting: str) -> None:
    decoded = Flac().decode(Flac().encode(ALL_OF_16_BITS, setting))
    assert np.array_equal(decoded.samples, ALL_OF_16_BITS.samples)


def test_flac_of_a_wav_file_is_exact() -> None:
    samples = np.stack([made_sound("noise", 4_000, seed=seed) for seed in (1, 2)], axis=1)
    sound = read_sound(sound_file(samples, 44_100))
    assert np.array_equal(Flac().decode(Flac().encode(sound)).samples, sound.samples)


@pytest.mark.parametrize(("setting", "step"), [("16", 2.0**-15), ("24", 2.0**-23)])
def test_flac_rounds_finer_samples_by_at_most_half_a_step_and_clips(setting: str, step: float) -> None:
    sound = sound_of(made_sound("speech-like", 8_000), 16_000)
    decoded = Flac().decode(Flac().encode(sound, setting))
    assert 0 < np.abs(decoded.samples - sound.samples).max() <= step / 2 + 2.0**-25
    loud = Flac().decode(Flac().encode(sound_of(np.array([2.0, -2.0]), 16_000), setting))
    assert loud.samples.tolist() == [[1 - step, -1.0]]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("setting", Opus.settings)
def test_opus_takes_the_bit_rate_that_its_setting_says(rate_hz: int, setting: str) -> None:
    sound = sound_of(made_sound("speech-like", 5 * rate_hz, rate_hz), rate_hz)
    kbps = len(Opus().encode(sound, setting)) * 8 / 5_000
    assert int(setting) < kbps < int(setting) + 1.5 + 8 / 5  # of which 1 kB once


@pytest.mark.parametrize(("setting", "least"), [("12", 0.9), ("48", 0.99)])
def test_opus_sounds_like_what_it_was_made_of(setting: str, least: float) -> None:
    decoded = Opus().decode(Opus().encode(VOICE, setting))
    assert np.corrcoef(decoded.samples[0], VOICE.samples[0])[0, 1] > least


@pytest.mark.parametrize(
    ("rate_hz", "coded_hz"), [(1_000, 8_000), (11_025, 12_000), (22_050, 24_000), (44_100, 48_000), (96_000, 48_000)]
)  # fmt: skip
def test_opus_resamples_to_a_rate_that_it_knows(rate_hz: int, coded_hz: int) -> None:
    sound = sound_of(made_sound("tone", rate_hz, rate_hz), rate_hz)
    decoded = Opus().decode(Opus().encode(sound))
    assert (decoded.sample_rate_hz, decoded.duration_s) == (coded_hz, 1.0)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_two_channels_stay_two(codec: MediaCodec) -> None:
    left, right = made_sound("tone", 22_050, 22_050), made_sound("speech-like", 22_050, 22_050)
    decoded = codec.decode(codec.encode(Sound(np.stack([left, right]), 22_050), codec.settings[0]))
    assert decoded.samples.shape == (2, decoded.sample_rate_hz)
    assert abs(np.corrcoef(decoded.samples)[0, 1]) < 0.1


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
@pytest.mark.parametrize("setting", ["", "7", "24 ", "0", "-1", "1e9", "x" * 1000])
def test_setting_that_is_none_is_unknown(codec: MediaCodec, setting: str) -> None:
    with pytest.raises(
        UnknownCodec, match=f"codec {codec.codec_id} has no setting .{{0,40}}; expected one of"
    ):
        codec.encode(VOICE, setting)


@pytest.mark.parametrize(
    ("codec", "num_channels", "rate_hz"), [(Flac(), 9, 16_000), (Flac(), 1, 700_000), (Opus(), 3, 16_000)]
)
def test_sound_that_a_codec_cannot_hold_is_refused(
    codec: MediaCodec, num_channels: int, rate_hz: int
) -> None:
    with pytest.raises(BadInput, match=f"{codec.codec_id} holds at most"):
        codec.encode(Sound(np.zeros((num_channels, 100), np.float32), rate_hz), codec.settings[0])


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_bytes_of_another_codec_are_refused(codec: MediaCodec) -> None:
    others = [other.encode(VOICE, other.settings[0]) for other in CODECS if other is not codec]
    for data in (*others, sound_file(made_sound("noise", 100)), b"text", b""):
        with pytest.raises(BadInput):
            codec.decode(data)
