"""Pictures from files, bytes, arrays and Pillow: upright RGB, or one clear error and nothing large allocated."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_node import media
from edge_node.media import FORMATS, load_picture
from tests.kit.pictures import encoded, png_that_claims, textured
from wire.errors import BadInput, CleaveError, TooLarge
from wire.limits import MAX_IMAGE_PIXELS

RED, BLUE = (254, 0, 0), (0, 0, 254)


def two_coloured(width: int = 16, height: int = 8) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def rgb(picture: media.Picture) -> np.ndarray[Any, Any]:
    return np.asarray(picture.image)


def test_file_bytes_array_and_pillow_give_the_same_picture(tmp_path: Path) -> None:
    image = textured(20, 12)
    data = encoded(image)
    (tmp_path / "p.png").write_bytes(data)
    sources = [tmp_path / "p.png", str(tmp_path / "p.png"), data, np.asarray(image), image]
    pictures = [load_picture(source) for source in sources]
    assert all(np.array_equal(rgb(picture), np.asarray(image)) for picture in pictures)
    assert {(picture.width, picture.height) for picture in pictures} == {(20, 12)}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_listed_is_read(kind: str) -> None:
    assert load_picture(encoded(textured(16, 16), kind)).image.size == (16, 16)


def test_bytes_that_identify_a_picture_differ_where_the_picture_does() -> None:
    one, other = textured(8, 8, 1), textured(8, 8, 2)
    assert load_picture(one).data == load_picture(np.asarray(one)).data != load_picture(other).data
    same_pixels = np.zeros((2, 8, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)
    assert load_picture(same_pixels[0]).data != load_picture(same_pixels[1]).data


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, RED), (2, BLUE), (3, BLUE), (6, RED), (8, BLUE), (5, RED), (7, BLUE)]
)
def test_exif_rotation_is_applied(orientation: int, corner: tuple[int, int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = load_picture(encoded(two_coloured(), "PNG", exif=exif))
    assert picture.image.size == ((8, 16) if orientation >= 5 else (16, 8))
    assert picture.image.getpixel((0, 0)) == corner


def test_what_is_transparent_lies_on_white() -> None:
    rgba = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    rgba.putpixel((1, 1), (255, 0, 0, 255))
    rgba.putpixel((2, 2), (255, 0, 0, 128))
    for source in (rgba, encoded(rgba), np.asarray(rgba)):
        image = load_picture(source).image
        assert [image.getpixel((i, i)) for i in range(3)] == [(255, 255, 255), (255, 0, 0), (255, 127, 127)]


def test_transparent_colour_of_a_palette_lies_on_white() -> None:
    palette = two_coloured().convert("P", palette=Image.Palette.ADAPTIVE)
    index = palette.getpixel((0, 0))
    image = load_picture(encoded(palette, "PNG", transparency=index)).image
    assert (image.getpixel((0, 0)), image.getpixel((15, 0))) == ((255, 255, 255), BLUE)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_picture_of_any_mode_becomes_rgb(mode: str) -> None:
    assert load_picture(textured(6, 4).convert(mode)).image.mode == "RGB"


def test_greyscale_has_three_equal_channels() -> None:
    values = rgb(load_picture(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    assert np.array_equal(values, np.repeat(np.arange(64).reshape(8, 8, 1), 3, axis=2))


def test_sixteen_bit_greyscale_keeps_its_shades() -> None:
    shades = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for source in (Image.fromarray(shades), encoded(Image.fromarray(shades))):
        assert rgb(load_picture(source))[..., 0].ravel().tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_picture_without_a_known_white_is_refused(mode: str) -> None:
    with pytest.raises(BadInput, match="32 bits"):
        load_picture(textured(6, 4).convert(mode))


def test_first_frame_of_an_animation_is_the_picture() -> None:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_picture(data).image.getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("empty.png", b"", BadInput, "empty"),
        ("text.png", b"just a few words, and no picture", BadInput, "known format"),
        ("page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadInput, "known format"),
        ("half.png", encoded(textured(64, 64))[:2000], BadInput, "truncated"),
        ("half.jpg", encoded(textured(64, 64), "JPEG")[:500], BadInput, "truncated"),
        ("huge.png", png_that_claims(20_000, 20_000), TooLarge, "pixels"),
        ("large.png", png_that_claims(9_000, 9_000), TooLarge, "81,000,000 pixels"),
        ("bomb.png", png_that_claims(4_000_000, 4_000_000), TooLarge, "pixels"),
        ("wide.png", png_that_claims(70_000, 400), TooLarge, "65,500"),
        ("line.png", png_that_claims(4_001, 20), BadInput, "200 times"),
    ],
)
def test_file_that_is_no_usable_picture_is_one_clear_error_with_its_name(
    tmp_path: Path, name: str, content: bytes, error: type[CleaveError], says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=says) as raised:
        load_picture(path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_pixels_are_counted_before_any_is_decoded() -> None:
    data = png_that_claims(9_000, 9_000)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        load_picture(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_picture_at_the_bound_is_not_refused_for_its_pixels() -> None:
    with pytest.raises(BadInput, match="truncated"):
        load_picture(png_that_claims(8_000, MAX_IMAGE_PIXELS // 8_000))


def test_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(media.MAX_FILE_BYTES + 1)
    with pytest.raises(TooLarge, match=r"large\.png"):
        load_picture(path)


def test_missing_file_and_directory_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_picture(tmp_path / "none.png")
    with pytest.raises(BadInput, match="directory"):
        load_picture(tmp_path)
    with pytest.raises(BadInput):
        load_picture("~nobody-of-this-name/p.png")
    with pytest.raises(BadInput):
        load_picture("a\0b.png")


def test_pipe_and_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(BadInput, match="plain file"):
            load_picture(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.array([[None]]),
    ],
)
def test_array_of_another_dtype_or_shape_is_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(BadInput, match="array of shape"):
        load_picture(array)


def test_array_that_is_a_view_is_read_in_its_own_order() -> None:
    array = np.asarray(textured(8, 6))
    for view in (array[::2, ::-1], np.asfortranarray(array), array.transpose(1, 0, 2)):
        assert np.array_equal(rgb(load_picture(view)), view)


@pytest.mark.parametrize("source", [None, 5, [1, 2], bytearray(b"x"), object()])
def test_source_of_another_kind_is_refused(source: Any) -> None:
    with pytest.raises(BadInput, match="path, bytes"):
        load_picture(source)


def test_pillow_picture_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        load_picture(Image.new("RGB", (0, 5)))
    (tmp_path / "half.png").write_bytes(encoded(textured(64, 64))[:2000])
    with pytest.raises(BadInput, match="truncated"), Image.open(tmp_path / "half.png") as lazy:
        load_picture(lazy)
    with pytest.raises(TooLarge):
        load_picture(Image.new("1", (9_000, 9_000)))


def test_picture_that_is_loaded_is_not_changed_by_its_owner() -> None:
    image = textured(8, 8)
    picture = load_picture(image)
    before = rgb(picture).copy()
    image.paste(0, (0, 0, 8, 8))
    assert np.array_equal(rgb(picture), before)


def test_jpeg_bytes_is_what_pillow_writes() -> None:
    image = textured(40, 30)
    assert load_picture(image).jpeg_bytes() == len(encoded(image, "JPEG", quality=90))


_SEEDS = [encoded(textured(24, 16), kind) for kind in FORMATS]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6))
def test_damaged_file_is_a_picture_or_an_error_of_ours(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    with contextlib.suppress(CleaveError):
        assert load_picture(bytes(damaged)).image.mode == "RGB"
