"""What an Open may ask: every field that does not match the bundle or the limits is refused, by its own error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_node.asked.request import Request, parse_open
from cloud_node.asked.served import Bounds, Served
from tests.kit.clouds import limits
from tests.kit.talking import item_of, opening
from wire.errors import (
    BadInput,
    CleaveError,
    IncompatibleBundle,
    MalformedMessage,
    TooLarge,
    UnknownCodec,
    UnknownSplitPoint,
)
from wire.sizes import ImageSize
from wire.v1 import inference_pb2 as pb

BOUNDS = Bounds(limits(max_prompt_chars=100, max_new_tokens=32), default_deadline_s=60, max_deadline_s=600)

Change = Callable[[pb.Open], object]


def parsed(served: Served, change: Change = lambda message: None, bounds: Bounds = BOUNDS) -> Request:
    message = opening(served, "What is this?")
    change(message)
    return parse_open(message, served, bounds)


def _input(**fields: object) -> Change:
    def change(message: pb.Open) -> None:
        for name, value in fields.items():
            setattr(message.inputs[0], name, value)

    return change


def _header(**fields: object) -> Change:
    def change(message: pb.Open) -> None:
        for name, value in fields.items():
            setattr(message.inputs[0].tensors[0], name, value)

    return change


def _open(**fields: object) -> Change:
    def change(message: pb.Open) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


def _settings(**fields: object) -> Change:
    return lambda message: message.settings.MergeFrom(pb.GenerationSettings(**fields))  # type: ignore[arg-type]


def _size(width: int, height: int) -> Change:
    return lambda message: message.inputs[0].image.CopyFrom(pb.ImageSize(width=width, height=height))


def _other_dims(message: pb.Open) -> None:
    message.inputs[0].tensors[0].dims[:] = [1, 16, 1 << 40]


def _sound(message: pb.Open) -> None:
    message.inputs[0].audio.CopyFrom(pb.AudioSize(samples=5, sample_rate_hz=16_000))


def _times(count: int) -> Change:
    def change(message: pb.Open) -> None:
        message.inputs.extend([message.inputs[0]] * (count - 1))

    return change


def _embed(**then: Any) -> Change:
    return lambda message: message.embed.CopyFrom(pb.Embed(**then))


def test_right_open_becomes_a_request(served: Served) -> None:
    request = parsed(served)
    assert (request.request_id, request.prompt) == ("r1", "What is this?")
    assert (request.deadline_s, request.settings.max_new_tokens) == (60, 32)
    (item,) = request.inputs
    assert (item.modality, item.shape_id, item.split_point, item.codec) == ("image", "32x32", 1, "raw")
    assert (item.size, item.num_tiles) == (ImageSize(64, 48), 0)
    assert (item.payload_sizes, item.total_bytes) == ((512, 16), 528)


def test_several_inputs_keep_their_order(served: Served) -> None:
    chain = served.manifest.chains[0]
    items = [item_of(chain, split_point=k) for k in (1, 2, 1)]
    request = parse_open(opening(served, "Which?", inputs=items), served, BOUNDS)
    assert [item.split_point for item in request.inputs] == [1, 2, 1]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_open(request_id=""), MalformedMessage),
        (_open(request_id="a b"), MalformedMessage),
        (_open(request_id="a" * 65), MalformedMessage),
        (_open(bundle_digest="0" * 64), IncompatibleBundle),
        (_open(bundle_digest=""), IncompatibleBundle),
        (_embed(), BadInput),
        (_open(text=""), BadInput),
        (_open(text=" \n\t"), BadInput),
        (_open(text="x" * 101), TooLarge),
        (lambda message: message.ClearField("prompt"), BadInput),
        (lambda message: message.conversation.messages.add(), BadInput),
        (_open(deadline_s=-1.0), BadInput),
        (_open(deadline_s=float("nan")), BadInput),
        (lambda message: message.ClearField("inputs"), BadInput),
        (_input(modality=pb.MODALITY_AUDIO), BadInput),
        (_input(shape_id="8x8"), BadInput),
        (_input(split_point=3), UnknownSplitPoint),
        (_input(split_point=4_000_000_000), UnknownSplitPoint),
        (_input(split_point=2), MalformedMessage),
        (_input(num_tiles=1), MalformedMessage),
        (_input(modality=99), MalformedMessage),
        (_input(modality=pb.MODALITY_VIDEO), BadInput),
        (lambda message: message.inputs[0].ClearField("size"), MalformedMessage),
        (_sound, MalformedMessage),
        (_input(codec_id="jpeg"), UnknownCodec),
        (_input(setting="token"), UnknownCodec),
        (_input(total_bytes=527), MalformedMessage),
        (_input(payload=b"short"), MalformedMessage),
        (_size(0, 5), MalformedMessage),
        (_size(5, 65_536), MalformedMessage),
        (_size(8_001, 8_000), TooLarge),
        (_size(4_001, 20), BadInput),
        (_header(name="other"), MalformedMessage),
        (_header(dtype=pb.DTYPE_FLOAT16), MalformedMessage),
        (_header(dtype=99), MalformedMessage),
        (_other_dims, TooLarge),
        (_header(payload_bytes=513), MalformedMessage),
        (_header(payload_bytes=1 << 63), MalformedMessage),
        (lambda message: message.inputs[0].tensors.pop(), MalformedMessage),
        (_settings(max_new_tokens=0), BadInput),
        (_settings(max_new_tokens=33), BadInput),
        (_settings(max_new_tokens=4, min_new_tokens=5), BadInput),
        (_settings(temperature=float("nan")), BadInput),
        (_settings(temperature=-1.0), BadInput),
        (_settings(top_p=0.0), BadInput),
        (_settings(repetition_penalty=0.0), BadInput),
        (_settings(stop=[""]), BadInput),
        (_settings(stop=["x" * 257]), BadInput),
        (_settings(stop=["x"] * 17), BadInput),
        (_open(priority=10), BadInput),
        (_input(input_key=bytes(31)), MalformedMessage),
    ],
)
def test_open_that_does_not_match_is_refused_by_its_own_error(
    served: Served, change: Change, error: type[CleaveError]
) -> None:
    with pytest.raises(error) as refused:
        parsed(served, change)
    assert type(refused.value) is error


def test_refused_split_point_says_why(served: Served) -> None:
    refused = replace(served, refused={"image/32x32": {1: "its tail misses the probe"}})
    with pytest.raises(UnknownSplitPoint, match="its tail misses the probe"):
        parsed(refused)


def test_edge_that_has_run_nothing_needs_no_bundle(served: Served) -> None:
    item = item_of(served.manifest.chains[0], split_point=0)
    message = opening(served, "What?", inputs=[item])
    message.bundle_digest = ""
    assert parse_open(message, served, BOUNDS).inputs[0].split_point == 0


def test_more_inputs_than_the_limit_are_refused(served: Served) -> None:
    bounds = Bounds(limits(max_inputs=3), 60, 600)
    assert len(parsed(served, _times(3), bounds).inputs) == 3
    with pytest.raises(BadInput, match="4 inputs"):
        parsed(served, _times(4), bounds)


def test_limits_are_over_all_inputs_together(served: Served) -> None:
    with pytest.raises(TooLarge, match="1,056 bytes"):
        parsed(served, _times(2), Bounds(limits(max_request_bytes=1055), 60, 600))
    with pytest.raises(TooLarge, match="send chunks"):
        parsed(served, _times(2), Bounds(limits(max_inline_bytes=1000), 60, 600))


def test_pictures_that_are_too_large_together_are_refused(served: Served) -> None:
    def large(message: pb.Open) -> None:
        _size(8_000, 8_000)(message)
        _times(3)(message)

    with pytest.raises(TooLarge, match="192,000,000 pixels together"):
        parsed(served, large)


def test_payload_over_the_limit_is_refused(served: Served) -> None:
    bounds = Bounds(limits(max_request_bytes=527), 60, 600)
    with pytest.raises(TooLarge, match="527"):
        parsed(served, bounds=bounds)


def test_inline_features_over_the_limit_are_refused(served: Served) -> None:
    with pytest.raises(TooLarge, match="send chunks"):
        parsed(served, bounds=Bounds(limits(max_inline_bytes=100), 60, 600))


@pytest.mark.parametrize(("asked", "got"), [(0.0, 60.0), (5.0, 5.0), (10_000.0, 600.0)])
def test_deadline_is_what_was_asked_within_the_operators_bounds(
    served: Served, asked: float, got: float
) -> None:
    assert parsed(served, _open(deadline_s=asked)).deadline_s == got


def test_settings_become_arguments_of_generate_and_absent_ones_stay_the_models_own(served: Served) -> None:
    greedy = parsed(served, _settings(max_new_tokens=4, temperature=0.0)).settings
    assert greedy.generate_arguments() == {"max_new_tokens": 4, "do_sample": False}
    sampled = parsed(served, _settings(temperature=0.5, top_k=3, seed=1)).settings
    assert sampled.generate_arguments() == {
        "max_new_tokens": 32, "do_sample": True, "temperature": 0.5, "top_k": 3,
    }  # fmt: skip
    assert parsed(served).settings.generate_arguments() == {"max_new_tokens": 32}


def test_priority_stop_strings_and_key_of_the_input_are_taken(served: Served) -> None:
    def change(message: pb.Open) -> None:
        message.priority = 9
        message.inputs[0].input_key = bytes(range(32))
        message.settings.stop.extend(["x" * 256, "\n"])

    request = parsed(served, change)
    assert (request.priority, request.inputs[0].input_key) == (9, bytes(range(32)))
    assert request.settings.stop == ("x" * 256, "\n")
    plain = parsed(served)
    assert (plain.priority, plain.inputs[0].input_key, plain.settings.stop) == (0, b"", ())


@pytest.mark.parametrize(
    ("fields", "when_greedy", "when_sampling"),
    [
        ({}, True, False),
        ({"temperature": 0.0}, True, True),
        ({"temperature": 0.5}, False, False),
        ({"temperature": 0.5, "seed": 0}, True, True),
        ({"seed": 1}, True, True),
    ],
)
def test_answer_is_repeatable_unless_it_is_sampled_without_a_seed(
    served: Served, fields: dict[str, float], when_greedy: bool, when_sampling: bool
) -> None:
    settings = parsed(served, _settings(**fields)).settings
    assert settings.is_repeatable(samples_by_default=False) is when_greedy
    assert settings.is_repeatable(samples_by_default=True) is when_sampling
