"""Inputs as callers give them: known by their bytes, sized without more work than needed, or one clear error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from PIL import Image

from edge_node.given import Given, GivenPicture, GivenSound, GivenText
from tests.kit.pictures import encoded, textured
from tests.wire.samples import make_chain
from wire.chain_entries import Chain
from wire.errors import BadInput
from wire.media.pictures import FORMATS
from wire.media.registry import find_media_codec
from wire.media.sounds import Sound, sound_of, to_mono
from wire.sizes import ImageSize, SoundSize
from wire.sound_preprocessing import SoundPreprocessing

RATE = 16_000
PICTURES = make_chain()


def sound_chain(*, window: int | None = None, listed: int | None = None, is_tiled: bool = False) -> Chain:
    recipe = SoundPreprocessing(sample_rate_hz=RATE, window_samples=window, steps=[], layout="samples")
    chain = make_chain()
    shape = msgspec.structs.replace(chain.input_shape, samples=listed, is_tiled=is_tiled)
    return msgspec.structs.replace(
        chain, modality="audio", preprocessing=recipe, preprocessing_digest=recipe.digest(), input_shape=shape
    )


SOUNDS = sound_chain()


def noise(num_samples: int, seed: int = 0, channels: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    made = np.random.default_rng(seed).normal(0, 0.1, (channels, num_samples)).astype(np.float32)
    return made[0] if channels == 1 else made


def file_of(
    samples: np.ndarray[Any, Any], rate: int = RATE, kind: str = "WAV", subtype: str = "FLOAT"
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate, subtype, format=kind)
    return buffer.getvalue()


def test_file_bytes_sound_and_array_are_heard_alike(tmp_path: Path) -> None:
    samples = noise(4000)
    data = file_of(samples)
    (tmp_path / "s.wav").write_bytes(data)
    sources = [tmp_path / "s.wav", str(tmp_path / "s.wav"), data, sound_of(samples, RATE), (samples, RATE)]
    for source in sources:
        assert np.array_equal(GivenSound(source).media(SOUNDS), samples)


def test_sound_is_heard_as_one_channel_at_the_models_rate() -> None:
    stereo = noise(44_100, channels=2)
    given = GivenSound((stereo, 44_100))
    assert given.size(SOUNDS) == SoundSize(RATE, RATE)
    assert np.array_equal(given.media(SOUNDS), to_mono(sound_of(stereo, 44_100), RATE))


@pytest.mark.parametrize("make", [GivenSound, GivenPicture])
def test_bytes_that_identify_an_input_differ_where_it_does(make: Any) -> None:
    if make is GivenSound:
        same = [(noise(50), RATE), (noise(50), RATE)]
        others = [(noise(50, seed=1), RATE), (noise(50), 8000), (noise(50).reshape(2, 25), RATE)]
    else:
        same, others = [textured(8, 8), textured(8, 8)], [textured(8, 8, 1)]
    assert make(same[0]).data == make(same[1]).data
    assert make(same[0]).data not in [make(other).data for other in others]


def test_sound_is_padded_with_silence_to_its_listed_length() -> None:
    samples = noise(3000)
    heard = GivenSound((samples, RATE)).media(sound_chain(listed=5000))
    assert isinstance(heard, np.ndarray)
    assert np.array_equal(heard[:3000], samples)
    assert not heard[3000:].any()
    assert heard.shape == (5000,)


def test_sound_of_which_only_the_beginning_would_be_heard_is_refused() -> None:
    longer = GivenSound((noise(RATE + 1), RATE))
    with pytest.raises(BadInput, match=r"lasts 1\.00 s.* 1 s at a time"):
        longer.media(sound_chain(window=RATE))
    with pytest.raises(BadInput, match="at a time"):
        longer.encode(sound_chain(window=RATE), "flac", "16")
    GivenSound((noise(RATE), RATE)).media(sound_chain(window=RATE))
    longer.media(sound_chain(window=RATE, is_tiled=True))


@pytest.mark.parametrize("codec_id", ["flac", "opus"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_sound_in_a_media_codec_is_as_long_as_it_says(codec_id: str, rate: int) -> None:
    given = GivenSound((noise(rate + 77, channels=2), rate))
    codec = find_media_codec(codec_id)
    decoded = codec.decode(given.encode(SOUNDS, codec_id, codec.settings[0]))
    assert isinstance(decoded, Sound)
    heard = to_mono(decoded, RATE)
    assert given.size(SOUNDS) == SoundSize(len(heard), RATE)
    assert np.corrcoef(heard, given.media(SOUNDS))[0, 1] > (0.999 if codec_id == "flac" else 0.3)


@pytest.mark.parametrize(
    ("kind", "subtype", "found"),
    [("FLAC", "PCM_16", "flac"), ("OGG", "OPUS", "opus"), ("WAV", "PCM_16", None), ("OGG", "VORBIS", None)],
)
def test_sound_files_that_can_be_sent_as_they_are_are_known(
    kind: str, subtype: str, found: str | None
) -> None:
    assert GivenSound(file_of(noise(4800), 48_000, kind, subtype)).sniff() == found
    assert GivenSound((noise(50), RATE)).sniff() is None


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("kind", FORMATS)
def test_size_of_a_picture_is_the_same_before_and_after_it_is_decoded(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {} if kind in ("GIF", "BMP") else {"exif": exif}
    given = GivenPicture(encoded(textured(20, 12), kind, **settings))
    before = given.size(PICTURES)
    picture = given.media(PICTURES)
    assert isinstance(picture, Image.Image)
    assert before == given.size(PICTURES) == ImageSize(*picture.size)


def test_size_of_a_picture_is_known_without_decoding_it() -> None:
    whole = encoded(textured(200, 200), "JPEG")
    cut = GivenPicture(whole[: len(whole) // 2])
    assert cut.size(PICTURES) == ImageSize(200, 200)
    with pytest.raises(BadInput, match="truncated"):
        cut.media(PICTURES)


def test_first_of_several_frames_is_said_once_it_is_looked_at() -> None:
    frames = [textured(8, 8, seed) for seed in range(3)]
    given = GivenPicture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    given.media(PICTURES)
    assert "first" in given.note()
    still = GivenPicture(encoded(frames[0]))
    still.media(PICTURES)
    assert still.note() == ""


@pytest.mark.parametrize(
    ("given", "codec"),
    [(GivenPicture(textured(40, 30)), "jpeg:90"), (GivenSound((noise(9000), RATE)), "opus:24")],
)
def test_what_it_costs_without_a_head_is_what_that_codec_makes(given: Given, codec: str) -> None:
    chain = PICTURES if given.modality == "image" else SOUNDS
    assert given.media_codec == codec
    assert given.media_bytes(chain) == len(given.encode(chain, *codec.split(":"))) > 0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, "path, bytes"),
        (5, "path, bytes"),
        (noise(5), "path, bytes"),
        ((noise(5),), "path, bytes"),
        (("a.wav", RATE), "path, bytes"),
        ((noise(5), 0), "sample rate"),
        ((np.zeros(5, bool), RATE), "dtype bool"),
        ("none.wav", "does not exist"),
        (".", "directory; give a sound"),
    ],
)
def test_sound_that_is_none_is_one_clear_error(source: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        GivenSound(source)


@pytest.mark.parametrize("data", [b"", b"no sound at all", encoded(textured(8, 8))])
def test_bytes_that_are_no_sound_are_told_once_they_are_heard(data: bytes) -> None:
    with pytest.raises(BadInput):
        GivenSound(data).size(SOUNDS)


@pytest.mark.parametrize(("text", "says"), [("\udcff", "UTF-8"), (5, "string")])
def test_text_that_is_none_is_one_clear_error(text: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        GivenText(text)
