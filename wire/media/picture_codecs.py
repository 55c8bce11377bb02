"""Pictures as files at split point 0: JPEG, WebP and AVIF at a quality of 1 to 100. Lossy, and no bound is stated.

What both sides compute with is what `decode` makes of the bytes, so that the answer to a picture sent so is the one
that the decoded picture gets. Pillow is imported where it is used: who only looks a codec up needs none.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

from wire.errors import BadInput, UnknownCodec
from wire.modality import Modality
from wire.sizes import ImageSize, Size

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_QUALITY = 100


class PictureCodec:
    """One format of Pillow's. A file that somebody else wrote in it is taken as well as what `encode` makes."""

    codec_id: str
    modality: Modality = "image"
    settings: tuple[str, ...]
    format_name: ClassVar[str]  # Pillow's

    def encode(self, media: Image, setting: str) -> bytes:
        """The picture (RGB) at a quality; raises UnknownCodec or BadInput."""
        quality = quality_of(self.codec_id, setting)
        buffer = io.BytesIO()
        try:
            media.save(buffer, self.format_name, quality=quality)
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"a picture of {media.width} x {media.height} pixels ({media.mode}) cannot be coded as "
                f"{self.codec_id}: {error}; use another codec"
            ) from error
        return buffer.getvalue()

    def decode(self, data: bytes | memoryview, said: Size | None = None) -> Image:
        """Upright RGB, of the first frame; raises BadInput or TooLarge, before anything large is allocated."""
        from wire.media.pictures import decode_picture

        size = said if isinstance(said, ImageSize) else None
        return decode_picture(data, f"the {self.codec_id}", (self.format_name,), size).image

    def is_such(self, data: bytes | memoryview) -> bool:
        """Whether a file can be sent as it is: this format, one frame, within bounds. Decodes no pixel."""
        from wire.media.pictures import is_sendable

        return self.has_signature(bytes(data[:16])) and is_sendable(data, self.format_name)

    def has_signature(self, start: bytes) -> bool:
        """Whether a file's first 16 bytes are this format's."""
        raise NotImplementedError


class Jpeg(PictureCodec):
    """ISO/IEC 10918-1, by libjpeg."""

    codec_id = "jpeg"
    settings = ("90", "75", "50", "25")
    format_name = "JPEG"

    def has_signature(self, start: bytes) -> bool:
        return start.startswith(b"\xff\xd8\xff")


class WebP(PictureCodec):
    """RFC 9649, lossy (VP8), by libwebp; a side has at most 16,383 pixels."""

    codec_id = "webp"
    settings = ("80", "60", "40", "20")
    format_name = "WEBP"

    def has_signature(self, start: bytes) -> bool:
        return start.startswith(b"RIFF") and start[8:12] == b"WEBP"


class Avif(PictureCodec):
    """AV1 image file format (AOMedia, v1.1.0), by libavif; slow to encode, and the fewest bytes."""

    codec_id = "avif"
    settings = ("60", "45", "30", "15")
    format_name = "AVIF"

    def has_signature(self, start: bytes) -> bool:
        return start[4:12] in (b"ftypavif", b"ftypmif1")


def is_quality(setting: str) -> bool:
    """Whether a setting is "1" to "100", written so."""
    return (
        setting.isascii()
        and setting.isdecimal()
        and setting[0] != "0"
        and len(setting) <= 3
        and (int(setting) <= MAX_QUALITY)
    )


def quality_of(codec_id: str, setting: str) -> int:
    """Raises UnknownCodec for a setting that is no quality."""
    if not is_quality(setting):
        raise UnknownCodec(
            f"codec {codec_id} has no quality {setting[:64]!r}; expected a whole number of 1 to {MAX_QUALITY}"
        )
    return int(setting)
