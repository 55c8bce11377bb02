"""Inputs that come as files: decoded within bounds, and of the size that was said of them."""

from __future__ import annotations

import numpy as np

from cloud_node.asked.inputs import RequestInput
from splitmodel.media import Media
from wire.codecs import split_codec_name
from wire.errors import BadInput
from wire.media.registry import find_media_codec
from wire.media.sounds import MOST_OFF_S, to_mono
from wire.sizes import ImageSize, SoundSize


def decode_media(item: RequestInput, payload: memoryview) -> Media:
    """An upright RGB picture, or one channel of a sound at the model's rate.

    Raises BadInput, TooLarge or Corrupt; BadInput, too, where the file holds another size than the request says.
    """
    codec_id, setting = split_codec_name(item.codec)
    decoded = find_media_codec(codec_id, setting).decode(payload, item.size)
    match item.size:
        case ImageSize():
            picture: Media = decoded
            return picture
        case SoundSize(samples, rate_hz):
            heard = to_mono(decoded, rate_hz)
            if abs(len(heard) - samples) > MOST_OFF_S * rate_hz:
                _require_size(item, str(SoundSize(len(heard), rate_hz)))
            return np.pad(heard[:samples], (0, max(0, samples - len(heard))))
        case _:
            raise BadInput(f"a text is sent as its tokens, and not as {item.codec}; use a codec of tensors")


def _require_size(item: RequestInput, found: str) -> None:
    if found != str(item.size):
        raise BadInput(
            f"the {item.codec} is {found}, and the request says {item.size}; say its size upright, or mono"
        )
