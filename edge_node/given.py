"""What the caller gave as one input: known again by its bytes, decoded once, when something needs more than those."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_node.media import ImageSource, PictureSource, read_file, read_source
from edge_node.preprocess import Media
from wire.chain_entries import InputShape, Preprocessing
from wire.errors import BadInput
from wire.media.pictures import upright_size
from wire.media.registry import find_media_codec, sniff_picture
from wire.media.sounds import Sound, read_sound, sniff, sound_of, to_mono
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize, TextSize
from wire.sound_preprocessing import SoundPreprocessing
from wire.text_preprocessing import TextPreprocessing

# A file, its bytes, a decoded sound, or an array [n] or [channels, n] with its samples a second.
SoundSource = str | bytes | Sound | tuple[NDArray[Any], int]
Source = ImageSource | SoundSource


class Given(ABC):
    """One input. Methods raise BadInput or TooLarge, naming it, where its bytes are none that are taken."""

    modality: ClassVar[Modality]
    input_arm: ClassVar[str]  # what it would be sent as without a head
    name: str
    data: bytes  # its identity: the caller's own bytes where there are any
    note: str = ""  # what a person should know of how it was read

    @abstractmethod
    def size(self, recipe: Preprocessing) -> Size:
        """How large it is, upright, or mono at the model's rate."""

    @abstractmethod
    def media(self, recipe: Preprocessing, shape: InputShape | None) -> Media:
        """What preprocessing takes, brought to a listed shape's length."""

    @abstractmethod
    def encode(self, recipe: Preprocessing, codec_id: str, setting: str) -> bytes:
        """The input itself, as a media codec makes it."""

    @abstractmethod
    def input_arm_bytes(self, recipe: Preprocessing) -> int:
        """What sending it as `input_arm` would cost."""

    def sniff(self) -> str | None:
        """The media codec whose file it is already, so that it can be sent as it is."""
        return None


@dataclass(slots=True)
class GivenPicture(Given):
    """A picture."""

    modality = "image"
    input_arm = "jpeg:90"
    source: PictureSource

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.source.name

    @property
    def data(self) -> bytes:  # type: ignore[override]
        return self.source.data
