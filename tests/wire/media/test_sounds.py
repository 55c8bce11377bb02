"""Sounds from files, bytes and arrays: samples within bounds, or one clear sentence and nothing large allocated."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.sounds import FILES, flac_that_claims, made_sound, sound_file, wav_that_claims
from wire.errors import BadInput, CleaveError, TooLarge
from wire.limits import MAX_SAMPLE_RATE_HZ, MAX_SOUND_BYTES, MAX_SOUND_S, MAX_SOUND_SAMPLES
from wire.media.sounds import Sound, read_sound, sniff, sound_of, to_mono

NOISE = made_sound("noise", 16_000)
SPEECH = made_sound("speech-like", 16_000)
IDS = [" ".join(kind) for kind in FILES]
# The largest error of a format that keeps every sample: half a step, and libsndfile's own scaling by 2^n - 1.
STEPS = {"PCM_U8": 2.0**-7, "PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "PCM_32": 2.0**-24, "FLOAT": 0.0}


def peak_bytes(function: Callable[[], Any]) -> int:
    """The most memory that Python and numpy held at once during the call."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize(("container", "subtype"), FILES, ids=IDS)
def test_every_format_that_is_listed_is_read(container: str, subtype: str, num_channels: int) -> None:
    samples = np.stack([SPEECH, made_sound("sweep", 16_000)][:num_channels], axis=1)
    sound = read_sound(sound_file(samples, 16_000, container, subtype))
    assert (sound.samples.shape, sound.samples.dtype) == ((num_channels, 16_000), np.float32)
    assert (sound.sample_rate_hz, sound.duration_s) == (16_000, 1.0)
    if subtype in STEPS:
        assert np.abs(sound.samples - samples.T).max() <= STEPS[subtype]
    else:
        correlations = [np.corrcoef(sound.samples[i], samples[:, i])[0, 1] for i in range(num_channels)]
        assert min(correlations) > 0.9


@pytest.mark.parametrize("rate_hz", [1, 8_000, 11_025, 44_100, 192_000, MAX_SAMPLE_RATE_HZ])
@pytest.mark.parametrize("num_channels", [1, 2, 6, 1024])
def test_any_rate_and_channel_count_is_read(rate_hz: int, num_channels: int) -> None:
    sound = read_sound(sound_file(np.full((50, num_channels), 0.5, np.float32), rate_hz))
    assert (sound.samples.shape, sound.sample_rate_hz) == ((num_channels, 50), rate_hz)


def test_bytes_and_a_memoryview_give_the_same_sound() -> None:
    data = sound_file(NOISE)
    assert np.array_equal(read_sound(data).samples, read_sound(memoryview(data)).samples)


@pytest.mark.parametrize(("container", "subtype"), FILES, ids=IDS)
def test_file_without_its_end_is_refused_and_not_cut_short(container: str, subtype: str) -> None:
    data = sound_file(NOISE, 16_000, container, subtype)
    for num_bytes in (len(data) - 1, len(data) // 2, 300, 60, 20):
        with pytest.raises(
            BadInput, match=r"^s\.x is a damaged or truncated sound \([^\n]*\); save it again$"
        ):
            read_sound(data[:num_bytes], "s.x")


@pytest.mark.parametrize(("container", "subtype"), FILES[-4:], ids=IDS[-4:])
def test_file_with_a_hole_in_its_middle_is_refused(container: str, subtype: str) -> None:
    data = bytearray(sound_file(NOISE, 16_000, container, subtype))
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(len(data[middle : middle + 4096]))
    with pytest.raises(BadInput, match="damaged or truncated"):
        read_sound(bytes(data))


@pytest.mark.parametrize(("container", "subtype"), FILES, ids=IDS)
def test_tag_after_the_sound_changes_nothing(container: str, subtype: str) -> None:
    data = sound_file(NOISE, 16_000, container, subtype)
    tagged = read_sound(data + b"TAG" + bytes(125))
    assert np.array_equal(tagged.samples, read_sound(data).samples)


NO_SOUNDS = {
    "empty": (b"", r"is empty \(0 bytes\); give a sound"),
    "text": (
        b"It was a dark and stormy night.\n" * 20,
        r"is not a sound in a known format \(WAV, FLAC.*convert",
    ),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "is not a sound in a known format"),
    "four letters": (b"RIFF", "is not a sound in a known format"),
    "a header alone": (b"RIFF\0\0\0\0WAVE", "is a damaged or truncated sound"),
    "no samples": (sound_file(NOISE[:0]), "holds no samples; record it again"),
    "NaN": (
        sound_file(np.array([0, np.nan], np.float32), subtype="FLOAT"),
        "has samples that are not finite",
    ),
    "infinite": (sound_file(np.array([0, -np.inf], np.float32), subtype="FLOAT"), "has samples that are not"),
    "immense": (sound_file(np.array([0, 1e30], np.float32), subtype="FLOAT"), ".* or far above full scale"),
    "telephone": (
        sound_file(NOISE, 8_000, subtype="GSM610"),
        "begins as WAV and holds GSM610 in WAV; convert",
    ),
    "tagged FLAC": (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + sound_file(NOISE, container="FLAC"), ".* MP3"),
}


@pytest.mark.parametrize("name", NO_SOUNDS)
def test_what_is_no_sound_is_one_clear_sentence(name: str) -> None:
    data, sentence = NO_SOUNDS[name]
    with pytest.raises(BadInput, match=f"^x\\.wav {sentence}") as raised:
        read_sound(data, "x.wav")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("num_bytes", [0xFFFF_FFFF, 0x7FFF_F000])
def test_wav_of_a_program_that_wrote_to_a_pipe_is_read_to_its_end(num_bytes: int) -> None:
    assert read_sound(wav_that_claims(num_bytes, sound_file(NOISE))).num_samples == len(NOISE)


def test_flac_of_a_program_that_wrote_to_a_pipe_is_read_to_its_end() -> None:
    data = flac_that_claims(0, sound_file(NOISE, container="FLAC"))
    assert read_sound(data).num_samples == len(NOISE)


@pytest.mark.parametrize("hours", [0.4, 10])
def test_header_that_claims_hours_allocates_nothing(hours: float) -> None:
    flac = flac_that_claims(int(hours * 3600 * 16_000), sound_file(NOISE, container="FLAC"))
    wav = wav_that_claims(int(hours * 3600 * 32_000), sound_file(NOISE))

    def attack() -> None:
        with pytest.raises(TooLarge if hours > 1 else BadInput):
            read_sound(flac)
        with pytest.raises(BadInput):
            read_sound(wav)

    assert peak_bytes(attack) < 4 * 2**20


def test_sound_over_a_bound_is_too_large_and_says_so() -> None:
    with pytest.raises(TooLarge, match=f"lasts {MAX_SOUND_S + 1:,} s, and at most {MAX_SOUND_S:,} are taken"):
        read_sound(sound_file(np.zeros(MAX_SOUND_S + 1, np.float32), 1))
    with pytest.raises(TooLarge, match=f"bytes, and at most {MAX_SOUND_BYTES:,} are read"):
        read_sound(bytes(MAX_SOUND_BYTES + 1))
    flac = flac_that_claims(MAX_SOUND_SAMPLES + 1, sound_file(NOISE, 48_000, "FLAC"))
    with pytest.raises(TooLarge, match=r"67,108,865 samples in 1 channels"):
        read_sound(flac)


@pytest.mark.slow
def test_small_file_that_decodes_to_more_than_it_claims_ends_at_its_claim() -> None:
    silence = sound_file(np.zeros(20_000_000, np.float32), 192_000, "FLAC")
    assert len(silence) < 200_000
    assert read_sound(flac_that_claims(1_000, silence)).num_samples == 1_000


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0.5, -1.0], np.float64), [[0.5, -1.0]]),
        (np.array([[1.0], [0.25]], np.float16), [[1.0], [0.25]]),
        (np.array([16384, -32768], np.int16), [[0.5, -1.0]]),
        (np.array([2**30, -(2**31)], np.int32), [[0.5, -1.0]]),
        (np.array([192, 128, 0], np.uint8), [[0.5, 0.0, -1.0]]),
    ],
)
def test_arrays_at_full_scale_become_numbers_from_minus_one_to_one(
    array: np.ndarray[Any, Any], expected: list[list[float]]
) -> None:
    sound = sound_of(array, 8_000)
    assert (sound.samples.tolist(), sound.samples.dtype) == (expected, np.float32)


@pytest.mark.parametrize(
    ("array", "rate_hz", "sentence"),
    [
        (np.zeros((2, 2, 2), np.float32), 8_000, "is an array of shape"),
        (np.zeros(5, np.int64), 8_000, "dtype int64; give float32 or int16"),
        (np.zeros(5, bool), 8_000, "dtype bool"),
        (np.zeros((8_000, 2), np.float32), 8_000, r"8,000 channels.*an array is \[channels, n\]"),
        (np.zeros(0, np.float32), 8_000, "holds no samples"),
        (np.zeros(5, np.float32), 0, "sample rate of 0 Hz"),
        (np.zeros(5, np.float32), MAX_SAMPLE_RATE_HZ + 1, "sample rate of 768,001 Hz"),
        (np.array([np.nan]), 8_000, "not finite"),
    ],
)
def test_array_that_is_no_sound_is_refused(array: Any, rate_hz: int, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        sound_of(array, rate_hz)


def test_mono_is_the_mean_of_the_channels() -> None:
    left, right = made_sound("noise", 500, seed=1), made_sound("noise", 500, seed=2)
    mono = to_mono(Sound(np.stack([left, right]), 16_000), 16_000)
    assert np.allclose(mono, (left + right) / 2, atol=1e-7)
    assert np.array_equal(to_mono(sound_of(left, 16_000), 16_000), left)


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [(44_100, 16_000), (8_000, 16_000), (48_000, 44_100)])
def test_resampled_tone_is_the_tone_at_the_other_rate(rate_hz: int, wanted_hz: int) -> None:
    mono = to_mono(sound_of(made_sound("tone", rate_hz, rate_hz), rate_hz), wanted_hz)
    expected = made_sound("tone", wanted_hz, wanted_hz)
    assert (mono.dtype, len(mono)) == (np.float32, wanted_hz)
    inner = slice(wanted_hz // 20, -wanted_hz // 20)
    assert np.abs(mono[inner] - expected[inner]).max() < 1e-4


def test_resampling_takes_away_what_the_lower_rate_cannot_hold() -> None:
    high = np.sin(2 * np.pi * 7_000 * np.arange(32_000) / 16_000).astype(np.float32)
    assert np.abs(to_mono(sound_of(high, 16_000), 8_000)[200:-200]).max() < 1e-3


def test_resampling_twice_gives_the_same_bits() -> None:
    sound = sound_of(NOISE, 44_100)
    assert np.array_equal(to_mono(sound, 16_000), to_mono(sound, 16_000))


def test_resampling_to_more_samples_than_are_taken_is_refused_first() -> None:
    sound = sound_of(np.zeros(1_800, np.float32), 1)

    def attack() -> None:
        with pytest.raises(TooLarge, match="makes 86,400,000 samples at 48000 Hz"):
            to_mono(sound, 48_000)

    assert peak_bytes(attack) < 2**20


@pytest.mark.parametrize(("rate_hz", "wanted_hz"), [(1, MAX_SAMPLE_RATE_HZ), (MAX_SAMPLE_RATE_HZ, 1)])
def test_rate_from_which_the_resampler_never_comes_back_is_refused(rate_hz: int, wanted_hz: int) -> None:
    with pytest.raises(BadInput, match=f"at {rate_hz} Hz cannot be resampled to {wanted_hz} Hz; record it"):
        to_mono(sound_of(np.ones(2, np.float32), rate_hz), wanted_hz)


def test_sound_too_short_for_one_sample_at_the_lower_rate_is_refused() -> None:
    with pytest.raises(BadInput, match="which is none at 8000 Hz; give a longer one"):
        to_mono(sound_of(np.ones(1, np.float32), MAX_SAMPLE_RATE_HZ), 8_000)


def test_sniffing_names_what_a_file_is_already() -> None:
    named = {subtype: sniff(sound_file(NOISE, 16_000, container, subtype)) for container, subtype in FILES}
    assert {named.pop("OPUS"), named.pop("MPEG_LAYER_III"), named.pop("VORBIS")} == {"opus", "mp3", None}
    assert sniff(sound_file(NOISE, container="FLAC")) == "flac"
    assert sniff(sound_file(NOISE)) == "wav"
    assert sniff(b"ID3\4" + bytes(100)) == "mp3"
    assert [sniff(data) for data in (b"", b"RIFF", b"Hello", b"\xff\xf1\x50\x80", b"OggS")] == [None] * 5


_SEEDS = [sound_file(NOISE[:2_000], 16_000, *kind) for kind in FILES]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6))
def test_damaged_file_is_a_sound_or_an_error_of_ours(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    with contextlib.suppress(CleaveError):
        assert np.isfinite(read_sound(bytes(damaged)).samples).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, MAX_SAMPLE_RATE_HZ), st.integers(1, MAX_SAMPLE_RATE_HZ), st.integers(1, 400))
def test_resampling_keeps_the_duration_or_says_why_not(
    rate_hz: int, wanted_hz: int, num_samples: int
) -> None:
    sound = sound_of(np.full(num_samples, 0.5, np.float32), max(rate_hz, num_samples // MAX_SOUND_S + 1))
    if sound.duration_s * wanted_hz > 2_000_000 or wanted_hz < 100:
        return  # seconds of work that show nothing new
    with contextlib.suppress(BadInput):
        assert abs(len(to_mono(sound, wanted_hz)) - sound.duration_s * wanted_hz) <= 1
