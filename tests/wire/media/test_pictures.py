"""Pictures of any kind are one upright RGB picture, or one clear error and nothing large allocated."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import compress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.kit import picture_files as files
from tests.kit.picture_files import CORNERS, animated, four_corners, png_file, shades_16, tiff_file
from tests.kit.pictures import encoded, png_that_claims, textured
from wire.errors import BadInput, CleaveError, TooLarge
from wire.limits import MAX_IMAGE_PIXELS
from wire.media.pictures import FORMATS, decode_picture, upright_rgb

EXACT = {
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 98},
}


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(decode_picture(data).image)


def corners(image: Image.Image) -> tuple[int, ...]:
    """Which of the four colours each corner has: top left, top right, bottom left, bottom right."""
    right, bottom = image.width - 2, image.height - 2
    seen = [np.asarray(image.getpixel(at)) for at in ((1, 1), (right, 1), (1, bottom), (right, bottom))]
    return tuple(int(np.abs(np.asarray(CORNERS) - colour).sum(axis=1).argmin()) for colour in seen)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_listed_is_read(kind: str) -> None:
    decoded = decode_picture(encoded(four_corners(), kind))
    assert (decoded.image.mode, decoded.image.size, decoded.note) == ("RGB", (32, 16), "")
    assert corners(decoded.image) == (0, 1, 2, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, (0, 1, 2, 3)),
        (2, (1, 0, 3, 2)),
        (3, (3, 2, 1, 0)),
        (4, (2, 3, 0, 1)),
        (5, (0, 2, 1, 3)),
        (6, (2, 0, 3, 1)),
        (7, (3, 1, 2, 0)),
        (8, (1, 3, 0, 2)),
        (0, (0, 1, 2, 3)),
        (9, (0, 1, 2, 3)),
    ],
)
def test_exif_rotation_is_applied(kind: str, orientation: int, expected: tuple[int, ...]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_picture(encoded(four_corners(), kind, exif=exif, **EXACT.get(kind, {}))).image
    assert image.size == ((16, 32) if 5 <= orientation <= 8 else (32, 16))
    assert corners(image) == expected


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense" * 9, b"Exif\0\0MM\0*"]
)
def test_damaged_metadata_do_not_make_a_picture_unusable(kind: str, exif: bytes) -> None:
    assert corners(decode_picture(encoded(four_corners(), kind, exif=exif)).image) == (0, 1, 2, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_what_is_transparent_lies_on_white(kind: str) -> None:
    rgba = Image.new("RGBA", (32, 16), (255, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (16, 0, 24, 16))
    rgba.paste((255, 0, 0, 128), (24, 0, 32, 16))
    image = decode_picture(encoded(rgba, kind, **EXACT.get(kind, {}))).image
    seen = np.asarray([image.getpixel((x, 8)) for x in (4, 20, 28)])
    assert np.abs(seen - [(255, 255, 255), (255, 0, 0), (255, 127, 127)]).max() <= 3


def test_transparent_colour_of_an_rgb_png_lies_on_white() -> None:
    data = encoded(four_corners(), "PNG", transparency=CORNERS[1])
    assert pixels(data)[[1, 1], [1, 30]].tolist() == [list(CORNERS[0]), [255, 255, 255]]


def test_transparent_colour_of_a_palette_lies_on_white() -> None:
    palette = four_corners().convert("P", palette=Image.Palette.ADAPTIVE)
    for kind in ("PNG", "GIF"):
        data = encoded(palette, kind, transparency=palette.getpixel((1, 1)))
        assert pixels(data)[1, 1].tolist() == [255, 255, 255]
        assert np.abs(pixels(data)[1, 30].astype(int) - CORNERS[1]).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV"])
def test_pillow_picture_of_any_mode_becomes_rgb(mode: str) -> None:
    between = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    image = upright_rgb(four_corners().convert(between).convert(mode)).image
    assert (image.mode, image.size) == ("RGB", (32, 16))


def test_greyscale_has_three_equal_channels() -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        assert np.array_equal(pixels(encoded(grey, kind)), np.repeat(np.asarray(grey)[..., None], 3, axis=2))


def test_sixteen_bit_greyscale_keeps_its_shades() -> None:
    shades = shades_16()
    big = shades.astype(">u2").tobytes()
    made = {
        "png by pillow": encoded(Image.fromarray(shades)),
        "png by hand": png_file(16, 16, 16, 0, big),
        "png with alpha": png_file(
            16, 16, 16, 4, np.stack([shades, shades | 0xFFFF], -1).astype(">u2").tobytes()
        ),
        "tiff by pillow": encoded(Image.fromarray(shades), "TIFF"),
        "tiff by hand": tiff_file(16, 16, [16], shades.tobytes()),
        "tiff big-endian": encoded(Image.fromarray(shades.astype(">u2")), "TIFF"),
        "tiff white is 0": tiff_file(16, 16, [16], (65535 - shades).tobytes(), photometric=0),
    }
    for name, data in made.items():
        assert pixels(data)[..., 0].ravel().tolist() == list(range(256)), name
    assert np.asarray(upright_rgb(Image.fromarray(shades)).image)[..., 1].ravel().tolist() == list(range(256))


def test_sixteen_bit_greyscale_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(shades_16() >> 8, -1)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(pixels(encoded(Image.fromarray(shades_16()), kind, exif=exif))[..., 0], turned)


def test_sixteen_bit_colours_keep_their_shades() -> None:
    colours = np.stack([shades_16(), shades_16()[::-1], shades_16().T], axis=-1)
    for data in (
        png_file(16, 16, 16, 2, colours.astype(">u2").tobytes()),
        tiff_file(16, 16, [16, 16, 16], colours.tobytes()),
    ):
        assert np.array_equal(pixels(data), colours >> 8)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours_also_where_adobe_inverts_it(kind: str) -> None:
    data = encoded(four_corners().convert("CMYK"), kind, **EXACT.get(kind, {}))
    assert files.opened(data).mode == "CMYK"
    assert (b"Adobe" in data) is (kind == "JPEG")
    assert np.abs(pixels(data).astype(int) - np.asarray(four_corners())).max() <= 12


@pytest.mark.parametrize("image", [Image.new("I", (4, 4)), Image.new("F", (4, 4)), Image.new("LAB", (4, 4))])
def test_pixels_whose_colour_nobody_knows_are_refused(image: Image.Image) -> None:
    for refused in (lambda: upright_rgb(image), lambda: decode_picture(encoded(image, "TIFF"))):
        with pytest.raises(BadInput, match=r"32 bits a pixel|of kind LAB"):
            refused()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"])
def test_first_frame_of_several_is_the_picture_and_that_is_said(kind: str) -> None:
    decoded = decode_picture(animated(kind))
    assert corners(decoded.image) == (0, 1, 2, 3)
    assert "only the first" in decoded.note


@pytest.mark.parametrize("kind", FORMATS)
def test_a_single_pixel_is_a_picture(kind: str) -> None:
    decoded = decode_picture(encoded(Image.new("RGB", (1, 1), (10, 250, 10)), kind))
    assert decoded.image.size == (1, 1)
    assert np.abs(np.asarray(decoded.image).astype(int) - (10, 250, 10)).max() <= 12


@pytest.mark.parametrize("kind", FORMATS)
def test_metadata_of_a_file_stay_with_it(kind: str) -> None:
    """An encoder would copy some of it: a comment, a profile."""
    exif = Image.Exif()
    exif[0x010E] = "at home"
    data = encoded(
        four_corners(), kind, exif=exif, icc_profile=b"profile" * 30, comment=b"at home", dpi=(72, 72)
    )
    assert decode_picture(data).image.info == {}


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", BadInput, "empty"),
        (b"just a few words, and no picture", BadInput, "known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadInput, "known format"),
        (encoded(textured(64, 64))[:2000], BadInput, "truncated"),
        (encoded(textured(64, 64), "JPEG")[:500], BadInput, "truncated"),
        (png_that_claims(20_000, 20_000), TooLarge, "pixels"),
        (png_that_claims(9_000, 9_000), TooLarge, "81,000,000 pixels"),
        (png_that_claims(4_000_000, 4_000_000), TooLarge, "pixels"),
        (png_that_claims(8_000, MAX_IMAGE_PIXELS // 8_000), BadInput, "truncated"),
        (png_that_claims(70_000, 400), TooLarge, "65,500"),
        (png_that_claims(4_001, 20), BadInput, "200 times"),
        (files.jpeg_that_claims(65_500, 65_500), TooLarge, "pixels"),
        (files.jpeg_that_claims(9_000, 9_000), TooLarge, "pixels"),
        (files.bmp_that_claims(9_000, 9_000), TooLarge, "pixels"),
        (files.gif_that_claims(65_535, 1_000), TooLarge, "pixels"),
        (files.tiff_file(60_000, 1_200, [8], b"few"), TooLarge, "pixels"),
        (files.tiff_with_a_tile(8_000), TooLarge, "tiles of 8000 x 8000"),
        (files.jpeg_with_scans(101), BadInput, "more than 100 scans"),
        (files.png_with_text_of(8 << 20), BadInput, "damaged"),
    ],
)
def test_what_is_no_usable_picture_is_one_clear_error_with_its_name(
    content: bytes, error: type[CleaveError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        decode_picture(content, "a.png")
    assert str(raised.value).startswith("a.png ")
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = encoded(textured(64, 64), kind)
    for cut in (20, len(data) // 2):
        with pytest.raises(BadInput, match=r"truncated|known format"):
            decode_picture(data[:cut])


def test_legitimate_tiles_and_scans_are_taken() -> None:
    assert decode_picture(files.tiff_with_a_tile(512)).image.size == (8, 8)
    assert decode_picture(files.jpeg_with_scans(9)).image.size == (32, 16)


MEASURE = """
import resource, sys
from pathlib import Path
from wire.errors import CleaveError
from wire.media.pictures import decode_picture

def decode(path):
    try:
        decode_picture(path.read_bytes())
    except CleaveError:
        return True

harmless, *bombs = sorted(Path(sys.argv[1]).iterdir())
decode(harmless)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert all(decode(bomb) for bomb in bombs)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """In a process of its own: what Pillow's libraries allocate, Python does not see."""
    profile = files.png_chunk(b"iCCP", b"x\0\0" + compress(bytes(64 << 20), 1))
    bombs = [
        files.png_file(9_000, 9_000, 1, 0, bytes(1_125 * 9_000)),
        files.png_file(8, 8, 8, 0, bytes(64), [profile]),
        files.png_with_text_of(64 << 20),
        files.tiff_with_a_tile(8_000),
        files.tiff_file(9_000, 9_000, [8], compress(bytes(81_000_000), 1), compression=8),
        files.jpeg_that_claims(65_500, 65_500),
        files.gif_that_claims(65_535, 65_535),
        files.bmp_that_claims(30_000, 30_000),
        files.jpeg_with_scans(10_000),
    ]
    for index, data in enumerate([encoded(textured(64, 64)), *bombs]):
        (tmp_path / str(index)).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(output) < 16 << 10  # KiB


_SEEDS = [encoded(textured(24, 16), kind) for kind in FORMATS] + [
    animated(kind) for kind in ("GIF", "WEBP", "PNG")
]


@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6))
def test_damaged_file_is_a_picture_or_an_error_of_ours(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    with contextlib.suppress(CleaveError):
        image = decode_picture(bytes(damaged)).image
        assert image.mode == "RGB"
        assert image.width * image.height <= MAX_IMAGE_PIXELS
