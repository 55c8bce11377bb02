"""Pictures as JPEG, WebP and AVIF: what comes back is near what went in, and nothing but this format is taken."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_node.media import load_picture
from tests.kit import picture_files as files
from tests.kit.picture_files import animated, four_corners
from tests.kit.pictures import encoded, textured
from wire.errors import BadInput, CleaveError, TooLarge, UnknownCodec
from wire.media.picture_codecs import Avif, Jpeg, PictureCodec, WebP

CODECS = [Jpeg(), WebP(), Avif()]
all_three = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)


def error_of(codec: PictureCodec, image: Image.Image, setting: str) -> float:
    decoded = codec.decode(codec.encode(image, setting))
    assert (decoded.mode, decoded.size) == ("RGB", image.size)
    return float(np.abs(np.asarray(decoded).astype(float) - np.asarray(image)).mean())


@all_three
def test_bytes_and_likeness_grow_with_quality(codec: PictureCodec) -> None:
    image = textured(96, 64)
    settings = sorted({*codec.settings, "1", "100"}, key=int)
    sizes = [len(codec.encode(image, setting)) for setting in settings]
    errors = [error_of(codec, image, setting) for setting in settings]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 6  # halved colour: the noise in it is gone
    assert errors[0] > 1.5 * errors[-1]


@all_three
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 5), (17, 31), (200, 1)])
def test_every_size_comes_back(codec: PictureCodec, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    assert error_of(codec, image, codec.settings[0]) < 6


@all_three
def test_decoding_the_same_bytes_gives_the_same_pixels(codec: PictureCodec) -> None:
    data = codec.encode(textured(96, 64), codec.settings[0])
    assert codec.decode(data).tobytes() == codec.decode(memoryview(data)).tobytes()


@all_three
@pytest.mark.parametrize(
    "setting", ["", "0", "101", "090", "-1", "+5", " 90", "9.5", "1e1", "high", "٩", "9" * 5000]
)
def test_setting_that_is_no_quality_is_refused(codec: PictureCodec, setting: str) -> None:
    with pytest.raises(UnknownCodec, match="expected a whole number of 1 to 100") as raised:
        codec.encode(textured(8, 8), setting)
    assert len(str(raised.value)) < 200


def test_jpeg_costs_what_the_report_says_it_would() -> None:
    for image in (textured(40, 30), textured(300, 200, 1)):
        picture = load_picture(encoded(image))
        assert len(Jpeg().encode(picture.image, "90")) == picture.jpeg_bytes()
        assert len(Jpeg().encode(picture.image, "50")) == picture.jpeg_bytes(50)
        assert picture.jpeg_bytes() == len(encoded(image, "JPEG", quality=90))


@all_three
def test_only_its_own_format_is_taken(codec: PictureCodec) -> None:
    for kind in {"JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "ICO"} - {codec.format_name}:
        with pytest.raises(BadInput, match=codec.format_name):
            codec.decode(encoded(textured(16, 16), kind))


@all_three
def test_what_another_made_in_the_format_comes_back_upright_on_white_and_in_colour(
    codec: PictureCodec,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = codec.decode(encoded(textured(24, 16), codec.format_name, exif=exif))
    assert turned.size == (16, 24)
    grey = codec.decode(encoded(textured(24, 16).convert("L"), codec.format_name))
    assert grey.mode == "RGB"
    if codec.format_name != "JPEG":
        clear = codec.decode(encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), codec.format_name))
        assert clear.getpixel((4, 4)) == (255, 255, 255)


@all_three
def test_no_metadata_crosses(codec: PictureCodec) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    data = encoded(
        textured(24, 16), codec.format_name, exif=exif, icc_profile=b"profile" * 30, comment=b"at home"
    )
    assert b"at home" in data
    again = codec.encode(load_picture(data).image, codec.settings[0])
    assert b"at home" not in again
    assert b"profile" not in again


def test_picture_that_a_format_cannot_hold_names_another_codec() -> None:
    with pytest.raises(BadInput, match=r"17000 x 90 pixels.*use another codec"):
        WebP().encode(Image.new("RGB", (17_000, 90)), "80")
    with pytest.raises(BadInput, match="use another codec"):
        Jpeg().encode(Image.new("RGBA", (9, 9)), "80")


def test_bounds_hold_before_anything_is_decoded() -> None:
    with pytest.raises(TooLarge, match="the jpeg has 9000 x 9000"):
        Jpeg().decode(files.jpeg_that_claims(9_000, 9_000))
    with pytest.raises(BadInput, match="200 times"):
        Jpeg().decode(files.jpeg_that_claims(4_001, 20))
    with pytest.raises(BadInput, match="scans"):
        Jpeg().decode(files.jpeg_with_scans(101))
    wide = bytearray(encoded(textured(24, 16), "WEBP"))
    at = wide.index(b"\x9d\x01\x2a") + 3  # the start code of a VP8 frame; width and height follow
    wide[at : at + 4] = (16_383).to_bytes(2, "little") * 2
    with pytest.raises(TooLarge, match="far more than 64,000,000 pixels"):
        WebP().decode(bytes(wide))
    tall = encoded(textured(24, 16), "AVIF")
    sizes = tall.index(b"ispe") + 8
    with pytest.raises(CleaveError):
        Avif().decode(tall[:sizes] + (9_000).to_bytes(4, "big") * 2 + tall[sizes + 8 :])


@all_three
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"\0\0\0\x20ftypavif"]
)
def test_garbage_is_refused(codec: PictureCodec, data: bytes) -> None:
    with pytest.raises(BadInput):
        codec.decode(data)


@all_three
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_a_picture_of_that_size_or_an_error_of_ours(
    codec: PictureCodec, data: st.DataObject
) -> None:
    damaged = bytearray(codec.encode(textured(40, 24), data.draw(st.sampled_from(codec.settings))))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5)
    ):
        damaged[position % len(damaged)] = value
    cut = data.draw(st.integers(0, 2 * len(damaged)))
    with contextlib.suppress(BadInput, TooLarge):
        image = codec.decode(bytes(damaged[:cut]))
        assert image.mode == "RGB"
        assert len(image.tobytes()) == 3 * image.width * image.height <= 3 * 64_000_000


@pytest.mark.parametrize("codec", [WebP(), Avif()], ids=lambda codec: codec.codec_id)
def test_first_frame_of_an_animation_is_the_picture(codec: PictureCodec) -> None:
    first = np.asarray(codec.decode(animated(codec.format_name))).astype(int)
    assert np.abs(first - np.asarray(four_corners())).mean() < 10  # the others are dark blue, and 100 away
