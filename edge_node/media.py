"""Media in: a picture from a file, bytes or an array becomes an upright RGB picture, within bounds."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from wire.errors import BadInput, TooLarge

ImageSource = str | Path | bytes | NDArray[np.uint8] | Image.Image

MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 64_000_000
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


def load_picture(source: ImageSource) -> Picture:
    """Loads a picture; raises BadInput or TooLarge, naming the source, where it cannot."""
    if isinstance(source, Image.Image):
        return _from_image(source)
    if isinstance(source, np.ndarray):
        return _from_image(_image_of(source))
    if isinstance(source, bytes):
        return _from_bytes(source, "the picture")
    return _from_bytes(_read(Path(source).expanduser()), str(source))


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory; give a picture file")
        num_bytes = path.stat().st_size
        if num_bytes > MAX_FILE_BYTES:
            raise TooLarge(f"{path} has {num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist; check the path of the picture") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _from_bytes(data: bytes, name: str) -> Picture:
    if not data:
        raise BadInput(f"{name} is empty (0 bytes); give a picture")
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(f"{name} has {len(data):,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    try:
        with warnings.catch_warnings():
            # Our own bound below is stricter than Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_pixels(image.width, image.height, name)
                image.load()
                return Picture(_upright_rgb(image), data)
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise BadInput(
            f"{name} is not a picture in a known format ({kinds}); convert it to one of them"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name} has far more than {MAX_PIXELS:,} pixels; scale it down") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadInput(f"{name} is a damaged or truncated picture ({error}); save it again") from error


def _from_image(image: Image.Image) -> Picture:
    _check_pixels(image.width, image.height, "the picture")
    rgb = _upright_rgb(image)
    header = f"{rgb.width}x{rgb.height}:".encode()
    return Picture(rgb, header + hashlib.sha256(rgb.tobytes()).digest())


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


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"{name} has {width} x {height} = {width * height:,} pixels, and at most {MAX_PIXELS:,} are taken; "
            "scale it down"
        )


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Applies the EXIF rotation; lays what is transparent on white, as the models' own processors do."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB":
        return upright.copy() if upright is image else upright
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return upright.convert("RGB")
