"""The answer is the one that the whole model would have given: at every split point, through real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cleave import EdgeNode
from cleave.terminal import printable
from edge_node.wanted import Sampling
from tests.kit.commands import cleave, cleave_each
from wire.codecs import all_codecs
from wire.manifest import load_manifest

pytestmark = pytest.mark.slow

QUESTION = "what colour is the circle?"
NUM_TOKENS = 24
Whole = Callable[[Path, str, int], str]


@pytest.fixture(scope="session")
def num_split_points(tiny_bundle: Path) -> int:
    return len(load_manifest(tiny_bundle / "manifest.json").chains[0].split_points)


def test_command_gives_the_whole_models_text_at_every_split_point(
    cloud: str, cache: Path, pictures: list[Path], whole_answer: Whole, num_split_points: int
) -> None:
    asked = [(split, pictures[split % 2]) for split in range(num_split_points)]
    results = cleave_each(
        [
            ("ask", QUESTION, "--cloud", cloud, "--image", picture, "--split", split, "--codec", "raw",
             "--max-tokens", NUM_TOKENS)
            for split, picture in asked
        ],
        cache,
    )  # fmt: skip
    for (split, picture), result in zip(asked, results, strict=True):
        assert result.code == 0, result.err
        assert result.out == printable(whole_answer(picture, QUESTION, NUM_TOKENS)) + "\n"
        assert f"split {split} (" in result.err


def test_every_picture_gets_the_whole_models_text_at_every_split_point(
    cloud: str, cache: Path, pictures: list[Path], whole_answer: Whole, num_split_points: int
) -> None:
    expected = [whole_answer(picture, QUESTION, NUM_TOKENS) for picture in pictures]
    assert len(set(expected)) == len(pictures), "answers that do not depend on the picture prove nothing"
    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        for split in range(num_split_points):
            for codec in ("raw", "raw+zstd"):
                got = [
                    edge.ask(QUESTION, picture, split=split, codec=codec, max_new_tokens=NUM_TOKENS).text()
                    for picture in pictures
                ]
                assert got == expected


@pytest.mark.parametrize("question", ["?", "Größe — 大きさは？ 🙂", "two\nlines", "a " * 150])
def test_any_question_gets_the_whole_models_text(
    cloud: str, cache: Path, pictures: list[Path], whole_answer: Whole, question: str
) -> None:
    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        answer = edge.ask(question, pictures[0], split=3, codec="raw", max_new_tokens=NUM_TOKENS)
        assert answer.text() == whole_answer(pictures[0], question, NUM_TOKENS)


def test_every_codec_is_answered_and_sends_no_more_than_raw(
    cloud: str, cache: Path, pictures: list[Path]
) -> None:
    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        for split in (0, 4):
            sizes = {}
            for codec in map(str, all_codecs()):
                answer = edge.ask(QUESTION, pictures[0], split=split, codec=codec, max_new_tokens=4)
                assert isinstance(answer.text(), str)
                assert answer.report.generated_tokens >= 1
                sizes[codec] = answer.report.feature_bytes
            assert sizes["fp16"] == sizes["bf16"] == sizes["raw"] / 2
            assert sizes["int8:token"] < sizes["fp16"]


def test_sampling_with_a_seed_gives_the_same_text_again(
    cloud: str, cache: Path, pictures: list[Path]
) -> None:
    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        # The second differs in what changes nothing, so that it is computed, and not found in the cache.
        asked: list[Sampling] = [{"seed": 1}, {"seed": 1, "min_new_tokens": 0}, {"seed": 2}]
        answers = [
            edge.ask(QUESTION, pictures[0], temperature=1.0, max_new_tokens=NUM_TOKENS, **each)
            for each in asked
        ]
        texts = [answer.text() for answer in answers]
        assert "answer" not in [answer.report.cache for answer in answers]
        assert texts[0] == texts[1] != texts[2]


def test_repeated_question_is_answered_from_the_cache_with_the_same_text(
    caching_cloud: str, cache: Path, pictures: list[Path], whole_answer: Whole
) -> None:
    question = "Is this in the cache?"
    with EdgeNode(caching_cloud, bundles=cache / "bundles") as edge:
        asked = [edge.ask(question, pictures[0], max_new_tokens=NUM_TOKENS) for _ in range(2)]
        texts = [answer.text() for answer in asked]
    with EdgeNode(caching_cloud, bundles=cache / "bundles") as another:
        asked.append(another.ask(question, pictures[0], max_new_tokens=NUM_TOKENS, hash_first=True))
        texts.append(asked[-1].text())
    assert texts == [whole_answer(pictures[0], question, NUM_TOKENS)] * 3
    assert [answer.report.cache for answer in asked][1:] == ["answer", "answer"]
    assert [answer.report.uploaded_bytes for answer in asked][1:] == [0, 0]


def test_ask_takes_how_tokens_are_chosen_and_says_what_came_from_the_cache(
    caching_cloud: str, cache: Path, pictures: list[Path]
) -> None:
    options = [
        "--max-tokens", "8", "--min-tokens", "2", "--temperature", "0.8", "--top-k", "5", "--top-p", "0.9", "--min-p",
        "0.01", "--repetition-penalty", "1.1", "--seed", "3", "--stop", "\n\n", "--stop", "END", "--priority", "2",
    ]  # fmt: skip
    first, second = (
        cleave("ask", "Sampled?", "--cloud", caching_cloud, "--image", pictures[0], *options, cache=cache)
        for _ in range(2)
    )
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert "answer from the cache, 0 bytes sent" in second.err


def test_json_is_one_object_with_the_documented_fields(cloud: str, cache: Path, pictures: list[Path]) -> None:
    result = cleave("ask", QUESTION, "--cloud", cloud, "--image", pictures[0], "--json", cache=cache)
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == 1
    answer = json.loads(result.out)
    fields = {
        "ok": bool, "image": str, "question": str, "text": str, "model": str, "split_point": int,
        "split_label": str, "codec": str, "feature_bytes": int, "uploaded_bytes": int, "sent_bytes": int,
        "jpeg_bytes": int, "cache": str, "finish_reason": str, "prompt_tokens": int,
        "generated_tokens": int, "num_resumed": int, "ms": dict, "inputs": list,
    }  # fmt: skip
    assert {name: type(value) for name, value in answer.items()} == fields
    assert (answer["ok"], answer["question"], answer["image"]) == (True, QUESTION, str(pictures[0]))
    assert answer["finish_reason"] in ("stop_token", "length")
    assert all(value >= 0 for value in answer["ms"].values())
    (only,) = answer["inputs"]
    assert (only["source"], only["modality"]) == (str(pictures[0]), "image")
    assert (only["codec"], only["media_bytes"]) == (answer["codec"], answer["jpeg_bytes"])


def test_describing_lists_every_split_point_as_text_and_as_json(
    cloud: str, cache: Path, num_split_points: int
) -> None:
    text, as_json = cleave_each(
        [("describe", "--cloud", cloud), ("describe", "--cloud", cloud, "--json")], cache
    )
    assert (text.code, as_json.code) == (0, 0)
    assert "model.vision_tower.pre_layrnorm" in text.out
    (model,) = json.loads(as_json.out)["models"]
    points = model["chains"][0]["split_points"]
    assert [point["index"] for point in points] == list(range(num_split_points))
    assert all(point["served"] for point in points)
