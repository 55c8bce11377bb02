"""From a file's bytes, or what Pillow holds, to an upright RGB picture: bounded before it is decoded, one clear error.

Both sides decode here, the edge what its caller gave, the cloud what was sent at split point 0: the same call, the
same pixels. An ICC profile is not applied, as the models' own processors do not apply one.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from wire.errors import BadInput, CleaveError, TooLarge
from wire.limits import MAX_IMAGE_ASPECT, MAX_IMAGE_PIXELS
from wire.sizes import ImageSize

MAX_FILE_BYTES = 64 << 20
MAX_SIDE = 65_500  # of a JPEG; the wire allows 35 more
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")

# A scan costs a pass over all pixels, whatever its bytes; encoders make about ten.
_MAX_JPEG_SCANS = 100
_START_OF_SCAN = b"\xff\xda"
# A tile is decoded whole. They are 256 or 512 pixels wide; of a small picture one may be larger than the picture.
_MAX_TILE_PIXELS = 1 << 22
_IMAGE_WIDTH, _IMAGE_LENGTH = 256, 257
_TILE_WIDTH, _TILE_LENGTH, _PHOTOMETRIC, _WHITE_IS_ZERO = 322, 323, 262, 0

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", *_PREMULTIPLIED}
_SEVERAL = "it holds several frames or pages, and only the first one is looked at"

# Our own bounds are stricter than Pillow's warning, and what it repairs needs no word. Once, and not around each call:
# warnings.catch_warnings is the whole process's, and pictures are decoded on several threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class Decoded:
    """An upright RGB picture that carries no metadata, and what a person should know of how it came about."""

    image: Image.Image
    note: str = ""


def decode_picture(
    data: bytes | memoryview,
    name: str = "the picture",
    formats: tuple[str, ...] = FORMATS,
    said: ImageSize | None = None,
) -> Decoded:
    """The picture in a file's bytes; raises BadInput or TooLarge, naming it, where there is none that is taken.

    Where its size was `said`, another one is refused by its header.
    """
    with _opened(data, name, formats) as image:
        if said is not None and (found := _upright_size(image, name)) != (said.width, said.height):
            raise BadInput(
                f"{name} is {found[0]}x{found[1]}, and the request says {said}; say its size upright"
            )
        return _decoded(image, name)


def upright_rgb(image: Image.Image, name: str = "the picture") -> Decoded:
    """The picture that Pillow holds, or reads at its first use; raises BadInput or TooLarge."""
    with _errors_named(name):
        return _decoded(image, name)


def upright_size(data: bytes | memoryview, name: str = "the picture") -> tuple[int, int]:
    """Width and height of the picture in a file's bytes, by its header alone; raises BadInput or TooLarge."""
    with _opened(data, name, FORMATS) as image:
        return _upright_size(image, name)


def is_sendable(data: bytes | memoryview, format_name: str) -> bool:
    """Whether a file's header says a picture of that format, within bounds, and one frame of it; decodes nothing."""
    try:
        with _opened(data, "the picture", (format_name,)) as image:
            check_size(image.width, image.height, "the picture")
            return not getattr(image, "is_animated", False)
    except CleaveError:
        return False


def check_size(width: int, height: int, name: str) -> None:
    """Raises TooLarge or BadInput for a picture of too many pixels, too long a side, none, or the shape of a line."""
    if width * height > MAX_IMAGE_PIXELS:
        raise TooLarge(
            f"{name} has {width} x {height} = {width * height:,} pixels, and at most {MAX_IMAGE_PIXELS:,} are taken; "
            "scale it down"
        )
    if max(width, height) > MAX_SIDE:
        raise TooLarge(
            f"{name} is {width} x {height}, and a side has at most {MAX_SIDE:,} pixels; scale it down"
        )
    if width * height == 0:
        raise BadInput(f"{name} is {width} x {height}, which holds no pixel")
    if max(width, height) > MAX_IMAGE_ASPECT * min(width, height):
        raise BadInput(
            f"{name} is {width} x {height}, and one side is at most {MAX_IMAGE_ASPECT} times the other; cut it"
        )


def _upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    check_size(image.width, image.height, name)
    size = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # turned already, in some versions of Pillow
        size = int(image.tag_v2[_IMAGE_WIDTH]), int(image.tag_v2[_IMAGE_LENGTH])
    return size[::-1] if _orientation(image) in _TURNED else size


@contextmanager
def _opened(data: bytes | memoryview, name: str, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """The file's header, read."""
    if not data:
        raise BadInput(f"{name} is empty (0 bytes); give a picture")
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(f"{name} has {len(data):,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    content = bytes(data)
    with _errors_named(name, formats), Image.open(io.BytesIO(content), formats=formats) as image:
        if image.format in ("JPEG", "MPO") and content.count(_START_OF_SCAN) > _MAX_JPEG_SCANS:
            raise BadInput(f"{name} is a JPEG of more than {_MAX_JPEG_SCANS} scans; save it again")
        yield image


@contextmanager
def _errors_named(name: str, formats: tuple[str, ...] = FORMATS) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        kinds = ", ".join(formats)
        raise BadInput(
            f"{name} is not a picture in a known format ({kinds}); convert it to one of them"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name} has far more than {MAX_IMAGE_PIXELS:,} pixels; scale it down") from error
    except CleaveError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes of them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{name} is a damaged or truncated picture ({reason}); save it again") from error


def _decoded(image: Image.Image, name: str) -> Decoded:
    check_size(image.width, image.height, name)
    _check_mode(image.mode, name)
    _check_tiles(image, name)
    note = _SEVERAL if getattr(image, "is_animated", False) else ""
    image.load()
    upright = _as_rgb(_upright(image), _is_white_zero(image))
    # Where a picture was taken, and by whom, stays here; and no encoder finds a profile to copy.
    result = upright.copy() if upright is image else upright
    result.info = {}
    return Decoded(result, note)


def _check_mode(mode: str, name: str) -> None:
    if mode in ("I", "F"):
        raise BadInput(
            f"{name} has 32 bits a pixel, and nothing says which of its numbers is white; save it with 8 or 16"
        )
    if mode not in _MODES and not mode.startswith("I;16"):
        raise BadInput(f"{name} has pixels of kind {mode}, which are not taken; save it as RGB")


def _check_tiles(image: Image.Image, name: str) -> None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, length = image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_LENGTH, 0)
        if width * length > max(_MAX_TILE_PIXELS, 4 * image.width * image.height):
            raise TooLarge(f"{name} has tiles of {width} x {length} pixels, larger than it is; save it again")


def _is_white_zero(image: Image.Image) -> bool:
    """Whether 16-bit shades count from white, which Pillow turns around for 8 bits only."""
    return (
        isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    )


def _upright(image: Image.Image) -> Image.Image:
    """By the EXIF orientation, of which nothing is written back as Pillow's own way would."""
    transpose = _UPRIGHT.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """CIPA DC-008, tag 274; 1 is upright."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # its metadata is damaged, and the picture is not
        return 1
    return orientation if isinstance(orientation, int) else 1


def _as_rgb(image: Image.Image, is_white_zero: bool) -> Image.Image:
    """Lays what is transparent on white, as the models' own processors do."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion takes all but the 256 darkest of the 65,536 shades for white.
        shades = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(255 - shades if is_white_zero else shades).convert("RGB")
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
