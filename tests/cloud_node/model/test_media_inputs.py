"""Inputs that come as files: the whole model's answer to what the file holds, whether or not a chain is for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from cloud_node.model.serving import AnyRunner, serve
from cloud_node.model.tails import Taken, TakenWhole
from splitmodel.loading import load
from splitmodel.media import Media
from tests.cloud_node.model.test_shapes import runner_of, sound, whole_tokens
from tests.kit.generations import Asked, media_coded, run_alone, run_together
from tests.kit.pictures import encoded, textured
from wire.codecs import split_codec_name
from wire.errors import BadInput, TooLarge
from wire.media.registry import find_media_codec
from wire.media.sounds import to_mono
from wire.sizes import ImageSize, SoundSize

pytestmark = pytest.mark.slow

RATE = 16_000


@pytest.fixture(scope="module")
def llava(tiny_checkpoint: Path, tiny_bundle: Path) -> AnyRunner:
    return serve(load(str(tiny_checkpoint)), tiny_bundle)[1]


def decoded(media: Media, codec: str) -> Media:
    """What both sides compute with: a file's pixels are not those that went in."""
    codec_id, setting = split_codec_name(codec)
    _, payload = media_coded(media, codec, RATE)
    made = find_media_codec(codec_id, setting).decode(payload)
    return to_mono(made, RATE) if isinstance(media, np.ndarray) else made


@pytest.mark.parametrize("codec", ["jpeg:90", "webp:60", "avif:60"])
def test_picture_as_a_file_gets_the_whole_models_answer_to_its_pixels(llava: AnyRunner, codec: str) -> None:
    picture = textured(70, 50, seed=1)
    asked = run_alone(llava, Asked(llava, picture, "what?", codec=codec))
    assert asked.token_ids == whole_tokens(llava, [decoded(picture, codec)], "what?")


def test_files_and_features_share_a_request_and_a_batch(llava: AnyRunner) -> None:
    one, other = textured(70, 50, seed=1), textured(48, 48, seed=2)
    asked = Asked(llava, [one, other], "which?", split=4)
    item, payload = media_coded(one, "jpeg:90", 0)
    request = asked.sequence.request
    asked.sequence.request = replace(request, inputs=(item, request.inputs[1]))
    asked.sequence.payloads = (payload, asked.sequence.payloads[1])
    alone = Asked(llava, other, "what?", codec="jpeg:50")
    run_together(llava, [asked, alone])
    assert asked.token_ids == whole_tokens(llava, [decoded(one, "jpeg:90"), other], "which?")
    assert alone.token_ids == whole_tokens(llava, [decoded(other, "jpeg:50")], "what?")


@pytest.mark.parametrize(
    ("name", "media", "codec", "is_listed"),
    [
        ("smolvlm", textured(150, 70, seed=1), "jpeg:90", True),  # in tiles
        ("qwen2_vl", textured(96, 64, seed=1), "jpeg:90", True),
        ("qwen2_vl", textured(150, 70, seed=1), "jpeg:90", False),
        ("whisper", sound(1, 0.7), "opus:24", True),
        ("moonshine", sound(2, 1.0), "flac:16", True),
        ("moonshine", sound(2, 0.61), "flac:16", False),
    ],
    ids=lambda value: value if isinstance(value, str | bool) else "",
)
def test_input_whose_shape_no_chain_is_for_gets_the_whole_models_answer_too(
    name: str, media: Media, codec: str, is_listed: bool
) -> None:
    runner = runner_of(name)
    prompt = "what is it?" if codec == "jpeg:90" else ""
    asked = Asked(runner, media, prompt, codec=codec)
    (taken,) = runner.preparer._take(asked.sequence)  # type: ignore[misc]
    assert isinstance(taken, Taken if is_listed else TakenWhole)
    run_alone(runner, asked)
    expected = whole_tokens(runner, [decoded(media, codec)], prompt)
    assert asked.token_ids == expected[-len(asked.token_ids) :]
    other = textured(40, 90, seed=5) if codec == "jpeg:90" else sound(0, 1.0)
    assert expected != whole_tokens(runner, [other], prompt)


@pytest.mark.parametrize(
    ("codec", "data", "size", "error"),
    [
        ("jpeg:90", encoded(textured(70, 50), "JPEG"), ImageSize(50, 70), BadInput),
        ("jpeg:90", encoded(textured(70, 50), "JPEG"), ImageSize(70, 51), BadInput),
        ("jpeg:90", encoded(textured(70, 50), "PNG"), ImageSize(70, 50), BadInput),
        ("jpeg:90", encoded(textured(70, 50), "JPEG")[:200], ImageSize(70, 50), BadInput),
        ("webp:80", b"garbage", ImageSize(70, 50), BadInput),
        ("avif:60", b"", ImageSize(70, 50), BadInput),
    ],
    ids=["swapped", "other height", "a PNG", "cut", "garbage", "empty"],
)
def test_file_that_is_not_what_was_said_ends_its_own_request(
    llava: AnyRunner, codec: str, data: bytes, size: Any, error: type[Exception]
) -> None:
    bad = Asked(llava, textured(70, 50), codec="jpeg:90")
    item = replace(
        bad.sequence.request.inputs[0], codec=codec, size=size, payload_sizes=(len(data),), crc32=crc32(data)
    )
    bad.sequence.request = replace(bad.sequence.request, inputs=(item,))
    bad.sequence.payloads = (memoryview(data),)
    good = Asked(llava, textured(48, 48, seed=1), split=2)
    run_together(llava, [bad, good])
    assert isinstance(bad.end, (error, TooLarge))
    assert good.token_ids == whole_tokens(llava, [textured(48, 48, seed=1)], "what?")


@pytest.mark.parametrize(("seconds", "is_taken"), [(0.7, True), (0.705, True), (0.8, False), (0.1, False)])
def test_sound_may_be_off_by_what_resampling_makes_of_it_and_no_more(seconds: float, is_taken: bool) -> None:
    runner = runner_of("whisper")
    asked = Asked(runner, sound(1, 0.7), "", codec="flac:16")
    item = replace(asked.sequence.request.inputs[0], size=SoundSize(int(seconds * RATE), RATE))
    asked.sequence.request = replace(asked.sequence.request, inputs=(item,))
    run_alone(runner, asked)
    assert isinstance(asked.end, BadInput) is not is_taken
