"""How large an input is, as the wire tells it: what the cloud needs to know of media that it never sees.

The cloud runs a model's processor on blank media of this size, so every size is bounded before any is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from wire.errors import BadInput, MalformedMessage, TooLarge
from wire.limits import MAX_IMAGE_ASPECT, MAX_IMAGE_PIXELS, MAX_SOUND_S, MAX_TEXT_TOKENS
from wire.modality import Modality
from wire.v1 import inference_pb2 as pb

_MAX_SIDE = 65_535
_MAX_RATE_HZ = 768_000


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Of an upright picture, pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        width, height = self.width, self.height
        if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
            raise MalformedMessage(
                f"the picture is {width} x {height}, and a side has 1 to {_MAX_SIDE:,} pixels"
            )
        if width * height > MAX_IMAGE_PIXELS:
            raise TooLarge(f"the picture is {width} x {height}, and has at most {MAX_IMAGE_PIXELS:,} pixels")
        if max(width, height) > MAX_IMAGE_ASPECT * min(width, height):
            raise BadInput(
                f"the picture is {width} x {height}, and one side is at most {MAX_IMAGE_ASPECT} times the other"
            )

    @classmethod
    def parse(cls, text: str) -> ImageSize:
        """640x480, as users write it; raises BadInput for anything else."""
        width, _, height = text.partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise BadInput(f"{text!r} is no size of pictures; give width x height, such as 640x480")
        return cls(int(width), int(height))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class SoundSize:
    """Of one channel at the model's rate."""

    samples: int
    sample_rate_hz: int

    def __post_init__(self) -> None:
        if not 1 <= self.sample_rate_hz <= _MAX_RATE_HZ:
            raise MalformedMessage(
                f"the sound has {self.sample_rate_hz} samples a second, and it has 1 to {_MAX_RATE_HZ:,}"
            )
        if self.samples < 1:
            raise MalformedMessage("the sound has no sample, and it has at least 1")
        if self.samples > MAX_SOUND_S * self.sample_rate_hz:
            raise TooLarge(f"the sound lasts {self.seconds:.0f} s, and at most {MAX_SOUND_S:,} s are taken")

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate_hz

    def __str__(self) -> str:
        return f"{self.samples}@{self.sample_rate_hz}"


@dataclass(frozen=True, slots=True)
class TextSize:
    """Of a text encoder's input."""

    tokens: int

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MAX_TEXT_TOKENS:
            raise MalformedMessage(f"the text has {self.tokens} tokens, and it has 1 to {MAX_TEXT_TOKENS:,}")

    def __str__(self) -> str:
        return f"{self.tokens} tokens"


Size = ImageSize | SoundSize | TextSize
_FIELDS: dict[str, Modality] = {"image": "image", "audio": "audio", "text": "text"}


def size_to_wire(item: pb.Input, size: Size) -> None:
    """Sets the size of an Input."""
    match size:
        case ImageSize():
            item.image.CopyFrom(pb.ImageSize(width=size.width, height=size.height))
        case SoundSize():
            item.audio.CopyFrom(pb.AudioSize(samples=size.samples, sample_rate_hz=size.sample_rate_hz))
        case TextSize():
            item.text.CopyFrom(pb.TextSize(tokens=size.tokens))


def size_from_wire(item: pb.Input, modality: Modality) -> Size:
    """The size of an Input of that modality, within bounds; raises MalformedMessage, TooLarge or BadInput."""
    field = item.WhichOneof("size")
    if field is None or _FIELDS.get(field) != modality:
        raise MalformedMessage(f"the input is {modality}, and its size is that of {field or 'nothing'}")
    match field:
        case "image":
            return ImageSize(item.image.width, item.image.height)
        case "audio":
            return SoundSize(item.audio.samples, item.audio.sample_rate_hz)
        case _:
            return TextSize(item.text.tokens)
