"""Media in: a picture from a file, bytes or an array becomes an upright RGB picture, within bounds."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from wire.errors import BadInput, CleaveError, TooLarge
from wire.limits import MAX_IMAGE_ASPECT, MAX_IMAGE_PIXELS

ImageSource = str | Path | bytes | NDArray[np.uint8] | Image.Image

MAX_FILE_BYTES = 64 << 20
MAX_SIDE = 65_500  # of a JPEG; the wire allows 35 more
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Picture:
    """An RGB picture and the bytes that identify it: the file's own, or the array's."""

    image: Image.Image
    data: bytes

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def jpeg_bytes(self, quality: int = JPEG_QUALITY) -> int:
        """What sending this picture as a JPEG of that quality would cost."""
        buffer = io.BytesIO()
        self.image.save(buffer, "JPEG", quality=quality)
        return buffer.tell()


@dataclass(slots=True)
class PictureSource:
    """The bytes that identify a picture, and the picture once it is decoded."""

    data: bytes
    name: str
    decoded: Picture | None = None

    def picture(self) -> Picture:
        """Raises BadInput or TooLarge, naming the source, where the bytes are no picture that is taken."""
        if self.decoded is None:
            self.decoded = _from_bytes(self.data, self.name)
        return self.decoded


def load_picture(source: ImageSource) -> Picture:
    """Loads a picture; raises BadInput or TooLarge, naming the source, where it cannot."""
    return read_source(source).picture()


def read_source(source: ImageSource) -> PictureSource:
    """As far as is needed to know the picture again: a file is read, and not decoded. Raises as load_picture does."""
    name = "the picture"
    if isinstance(source, Image.Image | np.ndarray):
        picture = _from_image(source if isinstance(source, Image.Image) else _image_of(source))
        return PictureSource(picture.data, name, picture)
    if isinstance(source, bytes):
        return PictureSource(source, name)
    if isinstance(source, str | Path):
        return PictureSource(_read(source), str(source))
    raise BadInput(
        f"a picture is a path, bytes, a uint8 array or a Pillow image, not {type(source).__name__}"
    )


def _read(source: str | Path) -> bytes:
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise BadInput(f"{source} is a directory; give a picture file")
        # A pipe may never end, and a device never does.
        if path.exists() and not path.is_file():
            raise BadInput(f"{source} is no plain file; save the picture first")
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes > MAX_FILE_BYTES:
                raise TooLarge(f"{source} has {num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise BadInput(f"{source} does not exist; check the path of the picture") from error
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # a NUL character; the home of nobody
        raise BadInput(f"{str(source)!r} is no path: {error}") from error


def _from_bytes(data: bytes, name: str) -> Picture:
    if not data:
        raise BadInput(f"{name} is empty (0 bytes); give a picture")
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(f"{name} has {len(data):,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    try:
        with warnings.catch_warnings():
            # Our own bound below is stricter than Pillow's warning; and what it repairs needs no word.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return Picture(_decoded(image, name), data)
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise BadInput(
            f"{name} is not a picture in a known format ({kinds}); convert it to one of them"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name} has far more than {MAX_IMAGE_PIXELS:,} pixels; scale it down") from error
    except CleaveError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes of them
        raise _damaged(name, error) from error


def _from_image(image: Image.Image) -> Picture:
    try:
        rgb = _decoded(image, "the picture")
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
    ) as error:  # Pillow reads a file's pixels at their first use
        raise _damaged("the picture", error) from error
    header = f"{rgb.width}x{rgb.height}:".encode()
    return Picture(rgb, header + hashlib.sha256(rgb.tobytes()).digest())


def _decoded(image: Image.Image, name: str) -> Image.Image:
    _check_size(image.width, image.height, name)
    if image.mode in ("I", "F"):
        raise BadInput(
            f"{name} has 32 bits a pixel, and nothing says which of its numbers is white; save it with 8 or 16"
        )
    image.load()
    return _upright_rgb(image)


def _damaged(name: str, error: Exception) -> BadInput:
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadInput(f"{name} is a damaged or truncated picture ({reason}); save it again")


def _image_of(array: NDArray[Any]) -> Image.Image:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour):
        raise BadInput(
            f"the picture is an array of shape {array.shape} and dtype {array.dtype}; "
            "give uint8 of shape [height, width], [height, width, 3] or [height, width, 4]"
        )
    if array.size == 0:
        raise BadInput(f"the picture is an array of shape {array.shape}, which holds no pixel")
    return Image.fromarray(array)


def _check_size(width: int, height: int, name: str) -> None:
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


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Applies the EXIF rotation; lays what is transparent on white, as the models' own processors do."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        # Pillow's own conversion takes all but the 256 darkest of the 65,536 shades for white.
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
    if upright.mode == "RGB":
        return upright.copy() if upright is image else upright
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return upright.convert("RGB")
