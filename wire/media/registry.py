"""The media codecs there are, by name: what an input at split point 0 may be sent as, beside tensors."""

from __future__ import annotations

from wire.codecs.base import codec_name
from wire.errors import UnknownCodec
from wire.limits import MAX_ID_CHARS
from wire.media.base import MediaCodec
from wire.media.picture_codecs import Avif, Jpeg, PictureCodec, WebP, is_quality
from wire.media.sound_codecs import Flac, Opus
from wire.modality import Modality

_PICTURES: tuple[PictureCodec, ...] = (Jpeg(), WebP(), Avif())
_SOUNDS: tuple[MediaCodec, ...] = (Flac(), Opus())
_BY_ID: dict[str, MediaCodec] = {codec.codec_id: codec for codec in (*_PICTURES, *_SOUNDS)}

# The setting of a file that was in the format already, and is sent as it is.
AS_IT_IS = ""


def media_codecs(modality: Modality) -> list[MediaCodec]:
    """Those of one modality, the one that everybody reads first."""
    return [codec for codec in _BY_ID.values() if codec.modality == modality]


def is_media_codec(codec_id: str) -> bool:
    """Whether a codec id is a media codec's, and not a tensor codec's or none."""
    return codec_id in _BY_ID


def find_media_codec(codec_id: str, setting: str = AS_IT_IS) -> MediaCodec:
    """The codec of an Input's two fields; a picture's setting is any quality, or AS_IT_IS. Raises UnknownCodec."""
    codec = _BY_ID.get(codec_id)
    if codec is None:
        raise UnknownCodec(
            f"there is no media codec {codec_id[:MAX_ID_CHARS]!r}; expected one of {', '.join(_BY_ID)}"
        )
    is_known = setting in (AS_IT_IS, *codec.settings) or (codec.modality == "image" and is_quality(setting))
    if not is_known:
        kinds = "1 to 100" if codec.modality == "image" else f"one of {', '.join(codec.settings)}"
        raise UnknownCodec(
            f"media codec {codec_name(codec_id, setting)[: 2 * MAX_ID_CHARS]!r} has no such setting; expected {kinds}"
        )
    return codec


def sniff_picture(data: bytes | memoryview) -> str | None:
    """The codec id under which a picture file can be sent as it is; None: it must be decoded and coded anew.

    One frame, within bounds, by its header alone: whether its pixels can be read, decoding shows.
    """
    return next((codec.codec_id for codec in _PICTURES if codec.is_such(data)), None)
