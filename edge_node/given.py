"""What the caller gave as one input: known again by its bytes, decoded once, when something needs more than those."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_node.media import ImageSource, read_file, read_source
from edge_node.preprocess import Media
from wire.chain_entries import Chain
from wire.errors import BadInput
from wire.limits import MAX_SOUND_BYTES
from wire.media.pictures import upright_size
from wire.media.registry import find_media_codec, sniff_picture
from wire.media.sounds import Sound, read_sound, sniff, sound_of, to_mono
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize, TextSize
from wire.sound_preprocessing import SoundPreprocessing
from wire.text_preprocessing import TextPreprocessing

# A file, its bytes, a decoded sound, or an array [n] or [channels, n] with its samples a second.
SoundSource = str | Path | bytes | Sound | tuple[NDArray[Any], int]

_SENT_AS_IT_IS = ("flac", "opus")  # of the sounds that `sniff` tells apart


class Given(ABC):
    """One input. Methods raise BadInput or TooLarge, naming it, where it is none that is taken.

    `data` is its identity: the caller's own bytes where there are any. `chain` is any of its modality: all of a model's
    prepare it alike.
    """

    modality: ClassVar[Modality]
    media_codec: ClassVar[str]  # what it would be sent as without a head

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name

    @abstractmethod
    def size(self, chain: Chain) -> Size:
        """Upright, or mono at the model's rate."""

    @abstractmethod
    def media(self, chain: Chain) -> Media:
        """What the chain's preprocessing takes; a sound as long as the chain's listed length, if it has one."""

    @abstractmethod
    def encode(self, chain: Chain, codec_id: str, setting: str) -> bytes:
        """The input itself, as a media codec makes it."""

    @abstractmethod
    def media_bytes(self, chain: Chain) -> int:
        """What sending it in `media_codec` would cost."""

    def sniff(self) -> str | None:
        """The media codec whose file it is already, so that it can be sent as it is."""
        return None

    def note(self) -> str:
        """What a person should know of how it was read; "" before it is decoded."""
        return ""


class GivenPicture(Given):
    """A picture."""

    modality = "image"
    media_codec = "jpeg:90"

    def __init__(self, source: ImageSource) -> None:
        self._source = read_source(source)
        super().__init__(self._source.data, self._source.name)

    def size(self, chain: Chain) -> Size:
        if self._source.decoded is None:
            return ImageSize(*upright_size(self.data, self.name))
        return ImageSize(self._source.decoded.width, self._source.decoded.height)

    def media(self, chain: Chain) -> Media:
        return self._source.picture().image

    def encode(self, chain: Chain, codec_id: str, setting: str) -> bytes:
        return find_media_codec(codec_id, setting).encode(self._source.picture().image, setting)

    def media_bytes(self, chain: Chain) -> int:
        return self._source.picture().jpeg_bytes()

    def sniff(self) -> str | None:
        return sniff_picture(self.data)

    def note(self) -> str:
        return self._source.decoded.note if self._source.decoded is not None else ""


class GivenSound(Given):
    """A sound; what a model hears of it is one channel at the model's rate."""

    modality = "audio"
    media_codec = "opus:24"

    def __init__(self, source: SoundSource) -> None:
        self._sound: Sound | None = None
        self._mono: tuple[int, NDArray[np.float32]] | None = None
        name = "the sound"
        if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
            source = sound_of(*source)
        if isinstance(source, Sound):
            self._sound = source
            header = f"{source.samples.shape}@{source.sample_rate_hz}:".encode()
            data = header + hashlib.sha256(source.samples.tobytes()).digest()
        elif isinstance(source, bytes):
            data = source
        elif isinstance(source, str | Path):
            data, name = read_file(source, "sound", MAX_SOUND_BYTES), str(source)
        else:
            raise BadInput(
                f"a sound is a path, bytes, or (array, samples a second), not {type(source).__name__}"
            )
        super().__init__(data, name)

    def size(self, chain: Chain) -> Size:
        return SoundSize(len(self._samples(chain)), _rate_hz(chain))

    def media(self, chain: Chain) -> Media:
        samples, listed = self._samples(chain), chain.input_shape.samples
        return samples if listed is None else np.pad(samples, (0, listed - len(samples)))

    def encode(self, chain: Chain, codec_id: str, setting: str) -> bytes:
        heard = Sound(self._samples(chain)[None], _rate_hz(chain))
        return find_media_codec(codec_id, setting).encode(heard, setting)

    def media_bytes(self, chain: Chain) -> int:
        return len(self.encode(chain, *self.media_codec.split(":")))

    def sniff(self) -> str | None:
        found = sniff(self.data)
        return found if found in _SENT_AS_IT_IS else None

    def _samples(self, chain: Chain) -> NDArray[np.float32]:
        """[n] float32."""
        rate_hz = _rate_hz(chain)
        if self._mono is None or self._mono[0] != rate_hz:
            if self._sound is None:
                self._sound = read_sound(self.data, self.name)
            self._mono = rate_hz, to_mono(self._sound, rate_hz)
        _check_window(chain, self._mono[1], self.name)
        return self._mono[1]


class GivenText(Given):
    """A text for a text encoder."""

    modality = "text"
    media_codec = "utf-8"

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise BadInput(f"a text is a string, not {type(text).__name__}")
        try:
            super().__init__(text.encode(), "the text")
        except UnicodeEncodeError as error:
            raise BadInput("the text is no valid text; write it in UTF-8") from error
        self._text = text

    def size(self, chain: Chain) -> Size:
        assert isinstance(chain.preprocessing, TextPreprocessing)
        return TextSize(chain.preprocessing.length)

    def media(self, chain: Chain) -> Media:
        return self._text

    def encode(self, chain: Chain, codec_id: str, setting: str) -> bytes:
        raise BadInput(f"a text is sent as its tokens, and not as {codec_id}; use a codec of tensors")

    def media_bytes(self, chain: Chain) -> int:
        return len(self.data)


def _rate_hz(chain: Chain) -> int:
    assert isinstance(chain.preprocessing, SoundPreprocessing)
    return chain.preprocessing.sample_rate_hz


def _check_window(chain: Chain, samples: NDArray[np.float32], name: str) -> None:
    """Raises BadInput for a sound of which a model, that hears one window at a time, would hear the beginning only."""
    recipe = chain.preprocessing
    assert isinstance(recipe, SoundPreprocessing)
    window = recipe.window_samples
    shape = chain.input_shape
    if window is not None and len(samples) > window and shape.samples is None and not shape.is_tiled:
        raise BadInput(
            f"{name} lasts {len(samples) / recipe.sample_rate_hz:.2f} s, and this model hears "
            f"{window / recipe.sample_rate_hz:g} s at a time; let `listen` or `transcribe` cut it at its pauses"
        )
