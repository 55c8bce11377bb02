"""Several inputs in one request: each at its own arm, uploaded only if the cloud lacks it, all in one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cleave import EdgeNode
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Sequence
from cloud_node.asked.served import Served
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, limits
from tests.kit.pictures import encoded, textured
from wire.errors import BadInput, CleaveError, TooLarge, UnknownSplitPoint

ONE, TWO, THREE = (encoded(textured(60, 40, seed)) for seed in range(3))
RAW_BYTES = 27_648


@pytest.fixture
def requests(node: CloudThread, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Those that reach the engine."""
    seen: list[Request] = []
    submit = node.engine.submit

    def noting(sequence: Sequence) -> None:
        seen.append(sequence.request)
        submit(sequence)

    monkeypatch.setattr(node.engine, "submit", noting)
    return seen


def test_each_input_takes_its_own_arm_in_the_order_given(edge: EdgeNode, requests: list[Request]) -> None:
    answer = edge.ask("hi", images=[ONE, TWO, THREE], split=[0, 2, 3], codec=["raw", "fp16", None])
    assert answer.text() == "hi "
    arms = [(item.modality, item.split_point, item.codec) for item in requests[0].inputs]
    default = requests[0].inputs[2].codec
    assert arms == [("image", 0, "raw"), ("image", 2, "fp16"), ("image", 3, default)]
    told = [(one.modality, one.split_point, one.codec) for one in answer.report.inputs]
    assert told == arms


@pytest.mark.parametrize("split", [2, [2], [2, 2]])
def test_one_value_stands_for_all_inputs(edge: EdgeNode, requests: list[Request], split: Any) -> None:
    edge.ask("hi", images=[ONE, TWO], split=split, codec="raw").text()
    assert [(item.split_point, item.codec) for item in requests[0].inputs] == [(2, "raw")] * 2


def test_payloads_come_in_the_order_of_the_inputs(edge: EdgeNode, runner: FakeRunner) -> None:
    for images in ([ONE], [TWO], [ONE, TWO], [TWO, ONE]):
        edge.ask(f"about {len(runner.payloads)}", images=images, split=2, codec="raw").text()
    one, two, both, swapped = runner.payloads
    assert one != two
    assert (both, swapped) == (one + two, two + one)


def test_picture_by_itself_goes_before_those_in_the_list(edge: EdgeNode, runner: FakeRunner) -> None:
    edge.ask("hi", ONE, images=[TWO], split=2, codec="raw").text()
    edge.ask("ho", images=[ONE, TWO], split=2, codec="raw").text()
    assert runner.payloads[0] == runner.payloads[1]


def test_report_has_every_input_and_their_sums(edge: EdgeNode) -> None:
    answer = edge.ask("hi", images=[ONE, TWO], split=[2, 0], codec="raw")
    answer.text()
    report = answer.report
    first, second = report.inputs
    assert (report.split_point, report.split_label) == (2, first.split_label)
    assert (first.feature_bytes, second.feature_bytes) == (1280, RAW_BYTES)
    assert report.feature_bytes == report.uploaded_bytes == 1280 + RAW_BYTES
    assert [one.uploaded_bytes for one in report.inputs] == [1280, RAW_BYTES]
    assert [one.media_codec for one in report.inputs] == ["jpeg:90", "jpeg:90"]
    assert report.jpeg_bytes == first.media_bytes + second.media_bytes
    assert min(first.media_bytes, second.media_bytes) > 0
    assert report.ms["upload"] > 0
    assert report.to_dict()["inputs"][1]["feature_bytes"] == RAW_BYTES


def test_only_the_input_that_the_cloud_lacks_is_uploaded(edge: EdgeNode, runner: FakeRunner) -> None:
    edge.ask("one", ONE, split=0, codec="raw").text()
    answer = edge.ask("both", images=[TWO, ONE], split=0, codec="raw", hash_first=True)
    assert answer.text() == "both "
    assert [one.uploaded_bytes for one in answer.report.inputs] == [RAW_BYTES, 0]
    assert answer.report.cache == "features"
    assert len(runner.payloads[1]) == 2 * RAW_BYTES
    assert runner.payloads[1].endswith(runner.payloads[0])


def test_repeated_question_about_several_inputs_uploads_none(edge: EdgeNode, runner: FakeRunner) -> None:
    first = edge.ask("hi", images=[ONE, TWO], split=0, codec="raw")
    first.text()
    again = edge.ask("hi", images=[ONE, TWO], split=0, codec="raw")
    assert again.text() == first.report.text
    assert (again.report.cache, again.report.uploaded_bytes) == ("answer", 0)
    assert 0 < again.report.sent_bytes < 2048
    assert runner.ran == ["hi"]
    swapped = edge.ask("hi", images=[TWO, ONE], split=0, codec="raw")
    swapped.text()
    assert (swapped.report.cache, swapped.report.uploaded_bytes) == ("features", 0)


@pytest.mark.parametrize("hash_first", [None, False, True])
def test_large_inputs_go_in_chunks_each_of_its_own(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner, hash_first: bool | None
) -> None:
    small = limits(max_inline_bytes=2000, max_chunk_bytes=1000)
    with (
        cloud_thread(served, tiny_bundle, runner, limits=small) as node,
        EdgeNode(node.address, bundles=bundles) as edge,
    ):
        apart = [edge.ask("hi", image, split=2, codec="raw") for image in (ONE, TWO)]
        for answer in apart:
            answer.text()
    with (
        cloud_thread(served, tiny_bundle, runner, limits=small) as node,
        EdgeNode(node.address, bundles=bundles) as edge,
    ):
        # Each fits inside an Open, and both do not.
        together = edge.ask("hi", images=[ONE, TWO], split=2, codec="raw", hash_first=hash_first)
        assert together.text() == "hi "
        assert [one.uploaded_bytes for one in together.report.inputs] == [1280, 1280]
        node.require_idle()
    assert runner.payloads[2] == runner.payloads[0] + runner.payloads[1]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({}, BadInput, "give a picture or a sound"),
        ({"images": []}, BadInput, "give a picture or a sound"),
        ({"images": ONE}, BadInput, "images is one image"),
        ({"images": "photo.png"}, BadInput, "must be a list"),
        ({"images": [ONE, TWO], "split": [1] * 3}, BadInput, "3 split points for 2 inputs"),
        ({"images": [ONE, TWO], "codec": []}, BadInput, "0 codecs for 2 inputs"),
        ({"images": [ONE, TWO], "split": [1, 99]}, UnknownSplitPoint, "0 to 9"),
        ({"images": [ONE, b""]}, BadInput, "empty"),
        ({"images": [ONE, None]}, BadInput, "path, bytes"),
        ({"images": [ONE] * 17}, TooLarge, "17 inputs.* takes 16"),
        ({"image": ONE, "sounds": [b"RIFF"]}, BadInput, "takes no audio"),
    ],
)
def test_inputs_that_cannot_be_asked_about_are_one_clear_error(
    edge: EdgeNode, node: CloudThread, asked: dict[str, Any], error: type[CleaveError], says: str
) -> None:
    with pytest.raises(error, match=says):
        edge.ask("What?", **asked).text()
    assert edge.ask("next", ONE).text() == "next "
    node.require_idle()
