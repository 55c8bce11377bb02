"""What a media codec is: a picture or a sound as a file's bytes, sent at split point 0 in place of tensors.

Pillow and soundfile do the work, imported where they are used: what only speaks the wire needs neither.
"""

from __future__ import annotations

from typing import Any, Protocol

from wire.modality import Modality
from wire.sizes import Size


class MediaCodec(Protocol):
    """One format. `media` is a Pillow image (RGB) for pictures, a `Sound` for sounds."""

    codec_id: str  # "jpeg"
    modality: Modality
    settings: tuple[
        str, ...
    ]  # qualities or bit rates as the wire names them, the default first; ("",) for none

    def encode(self, media: Any, setting: str) -> bytes:
        """The file's bytes; raises UnknownCodec for a setting that is none, BadInput for media it cannot hold."""

    def decode(self, data: bytes | memoryview, said: Size | None = None) -> Any:
        """The media, bounded before anything is allocated; raises BadInput, TooLarge or Corrupt.

        Where its size was `said`, no other is decoded: a picture of these sides, upright, or a sound no longer.
        """
