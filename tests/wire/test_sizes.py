"""Sizes of inputs: what goes over the wire comes back, and none out of bounds exists, so none is made blank."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wire.errors import BadInput, CleaveError, MalformedMessage, TooLarge
from wire.limits import MAX_IMAGE_ASPECT, MAX_IMAGE_PIXELS, MAX_SOUND_S, MAX_TEXT_TOKENS
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize, TextSize, size_from_wire, size_to_wire
from wire.v1 import inference_pb2 as pb

SIZES: list[tuple[Modality, Size, str]] = [
    ("image", ImageSize(640, 480), "640x480"),
    ("audio", SoundSize(24_000, 16_000), "24000@16000"),
    ("text", TextSize(77), "77 tokens"),
]


@pytest.mark.parametrize(("modality", "size", "name"), SIZES)
def test_size_survives_the_wire_and_has_a_name(modality: Modality, size: Size, name: str) -> None:
    item = pb.Input()
    size_to_wire(item, size)
    parsed = pb.Input.FromString(item.SerializeToString())
    assert size_from_wire(parsed, modality) == size
    assert str(size) == name


@pytest.mark.parametrize(("modality", "size", "name"), SIZES)
def test_size_of_another_modality_or_none_is_malformed(modality: Modality, size: Size, name: str) -> None:
    item = pb.Input()
    with pytest.raises(MalformedMessage, match=f"is {modality}, and its size is that of nothing"):
        size_from_wire(item, modality)
    size_to_wire(item, size)
    for other, _, _ in SIZES:
        if other != modality:
            with pytest.raises(MalformedMessage, match=f"is {other}, and its size is that of {modality}"):
                size_from_wire(item, other)
    with pytest.raises(MalformedMessage, match="is video"):
        size_from_wire(item, "video")


def test_sounds_seconds_follow_from_its_rate() -> None:
    assert SoundSize(24_000, 16_000).seconds == 1.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageSize(1, 1),
        lambda: ImageSize(MAX_IMAGE_ASPECT, 1),
        lambda: ImageSize(8000, MAX_IMAGE_PIXELS // 8000),
        lambda: SoundSize(1, 1),
        lambda: SoundSize(MAX_SOUND_S * 768_000, 768_000),
        lambda: TextSize(1),
        lambda: TextSize(MAX_TEXT_TOKENS),
    ],
)
def test_size_at_its_bound_exists(make: Callable[[], Size]) -> None:
    make()


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: ImageSize(0, 5), MalformedMessage, "0 x 5, and a side has 1 to 65,535 pixels"),
        (lambda: ImageSize(5, -1), MalformedMessage, "5 x -1"),
        (lambda: ImageSize(65_536, 65_536), MalformedMessage, "65536 x 65536"),
        (lambda: ImageSize(8001, MAX_IMAGE_PIXELS // 8000), TooLarge, "has at most 64,000,000 pixels"),
        (lambda: ImageSize(65_535, 65_535), TooLarge, "has at most"),
        (lambda: ImageSize(1, MAX_IMAGE_ASPECT + 1), BadInput, "one side is at most 200 times the other"),
        (lambda: SoundSize(0, 16_000), MalformedMessage, "has no sample, and it has at least 1"),
        (lambda: SoundSize(-5, 16_000), MalformedMessage, "has no sample"),
        (lambda: SoundSize(10, 0), MalformedMessage, "has 0 samples a second"),
        (lambda: SoundSize(10, 768_001), MalformedMessage, "has 768001 samples a second"),
        (
            lambda: SoundSize(MAX_SOUND_S * 8 + 1, 8),
            TooLarge,
            f"lasts {MAX_SOUND_S} s, and at most {MAX_SOUND_S:,} s are taken",
        ),
        (lambda: SoundSize(2**63 - 1, 1), TooLarge, f"at most {MAX_SOUND_S:,} s"),
        (lambda: TextSize(0), MalformedMessage, "has 0 tokens, and it has 1 to 4,096"),
        (lambda: TextSize(MAX_TEXT_TOKENS + 1), MalformedMessage, "has 4097 tokens"),
    ],
)
def test_size_out_of_bounds_is_refused(
    make: Callable[[], Size], error: type[CleaveError], sentence: str
) -> None:
    with pytest.raises(error) as told:
        make()
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("modality", "item", "error"),
    [
        ("image", pb.Input(image=pb.ImageSize(width=2**32 - 1, height=2**32 - 1)), MalformedMessage),
        ("image", pb.Input(image=pb.ImageSize()), MalformedMessage),
        ("audio", pb.Input(audio=pb.AudioSize(samples=2**40, sample_rate_hz=16_000)), TooLarge),
        ("audio", pb.Input(audio=pb.AudioSize(samples=5)), MalformedMessage),
        ("text", pb.Input(text=pb.TextSize(tokens=2**31)), MalformedMessage),
    ],
)
def test_peers_size_out_of_bounds_is_refused(
    modality: Modality, item: pb.Input, error: type[CleaveError]
) -> None:
    with pytest.raises(error):
        size_from_wire(item, modality)
