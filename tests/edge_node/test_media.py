"""What a caller may give as a picture: a path, bytes, an array, a Pillow image; anything else is one clear error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_node import media
from edge_node.media import load_picture
from tests.kit.picture_files import animated, shades_16
from tests.kit.pictures import encoded, png_that_claims, textured
from wire.errors import BadInput, CleaveError, TooLarge


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


def test_bytes_that_identify_a_picture_differ_where_the_picture_does() -> None:
    one, other = textured(8, 8, 1), textured(8, 8, 2)
    assert load_picture(one).data == load_picture(np.asarray(one)).data != load_picture(other).data
    same_pixels = np.zeros((2, 8, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)
    assert load_picture(same_pixels[0]).data != load_picture(same_pixels[1]).data


def test_transparent_array_and_picture_lie_on_white() -> None:
    rgba = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    for source in (rgba, np.asarray(rgba), encoded(rgba)):
        assert load_picture(source).image.getpixel((1, 1)) == (255, 255, 255)


def test_sixteen_bit_greyscale_keeps_its_shades() -> None:
    for source in (Image.fromarray(shades_16()), encoded(Image.fromarray(shades_16()))):
        assert rgb(load_picture(source))[..., 0].ravel().tolist() == list(range(256))


def test_only_the_first_frame_of_several_is_used_and_the_picture_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(animated("GIF"))
    with Image.open(tmp_path / "a.gif") as lazy:
        pictures = [load_picture(source) for source in (tmp_path / "a.gif", animated("GIF"), lazy)]
    assert all("only the first" in picture.note for picture in pictures)
    assert all(np.array_equal(rgb(picture), rgb(pictures[0])) for picture in pictures)
    assert load_picture(encoded(textured(8, 8))).note == ""


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("empty.png", b"", BadInput, "empty"),
        ("text.png", b"just a few words, and no picture", BadInput, "known format"),
        ("half.png", encoded(textured(64, 64))[:2000], BadInput, "truncated"),
        ("large.png", png_that_claims(9_000, 9_000), TooLarge, "81,000,000 pixels"),
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
