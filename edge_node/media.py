"""Media in: what a caller may give as a picture (a path, bytes, an array, a Pillow image), and its bytes' identity."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wire.errors import BadInput, TooLarge
from wire.media.picture_codecs import Jpeg
from wire.media.pictures import MAX_FILE_BYTES, decode_picture, upright_rgb

ImageSource = str | Path | bytes | NDArray[np.uint8] | Image.Image

_JPEG = Jpeg()


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright RGB picture, and the bytes that identify it: the file's own, or the array's."""

    image: Image.Image
    data: bytes
    note: str = ""  # what a person should know of it: that only its first frame is looked at

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def jpeg_bytes(self, quality: int | None = None) -> int:
        """What sending this picture as a JPEG of that quality, the codec's default without one, would cost."""
        return len(_JPEG.encode(self.image, str(quality or _JPEG.settings[0])))


@dataclass(slots=True)
class PictureSource:
    """The bytes that identify a picture, and the picture once it is decoded."""

    data: bytes
    name: str
    decoded: Picture | None = None

    def picture(self) -> Picture:
        """Raises BadInput or TooLarge, naming the source, where the bytes are no picture that is taken."""
        if self.decoded is None:
            decoded = decode_picture(self.data, self.name)
            self.decoded = Picture(decoded.image, self.data, decoded.note)
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
        return PictureSource(read_file(source), str(source))
    raise BadInput(
        f"a picture is a path, bytes, a uint8 array or a Pillow image, not {type(source).__name__}"
    )


def read_file(source: str | Path, what: str = "picture", max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a plain file; raises BadInput or TooLarge, naming it."""
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise BadInput(f"{source} is a directory; give a {what} file")
        # A pipe may never end, and a device never does.
        if path.exists() and not path.is_file():
            raise BadInput(f"{source} is no plain file; save the {what} first")
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes > max_bytes:
                raise TooLarge(f"{source} has {num_bytes:,} bytes, and at most {max_bytes:,} are read")
            return file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise BadInput(f"{source} does not exist; check the path of the {what}") from error
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # a NUL character; the home of nobody
        raise BadInput(f"{str(source)!r} is no path: {error}") from error


def _from_image(image: Image.Image) -> Picture:
    decoded = upright_rgb(image)
    header = f"{decoded.image.width}x{decoded.image.height}:".encode()
    return Picture(decoded.image, header + hashlib.sha256(decoded.image.tobytes()).digest(), decoded.note)


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
