"""Several pictures in one request get the whole model's text, at split points of their own, through real processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cleave import EdgeNode
from cleave.terminal import printable
from tests.kit.commands import cleave

pytestmark = pytest.mark.slow

QUESTION = "which is larger?"
NUM_TOKENS = 24
Whole = Callable[[Sequence[Path], str, int], str]


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path) -> Whole:
    """The model's own processor and `generate`, nothing of ours."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(tiny_checkpoint, backend="pil")
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval()

    def answer(paths: Sequence[Path], question: str, num_tokens: int) -> str:
        content = [*({"type": "image"} for _ in paths), {"type": "text", "text": question}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        images = [Image.open(path).convert("RGB") for path in paths]
        inputs = processor(text=text, images=images, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=num_tokens, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        return str(processor.tokenizer.decode(new, skip_special_tokens=True))

    return answer


def test_every_order_and_number_of_pictures_gets_the_whole_models_text(
    cloud: str, cache: Path, pictures: list[Path], whole: Whole
) -> None:
    one, two, three = pictures
    asked = [(one, two), (two, one), (one, two, three), (one, one), (three,)]
    expected = [whole(paths, QUESTION, NUM_TOKENS) for paths in asked]
    assert len(set(expected)) == len(asked), "answers that do not depend on the pictures prove nothing"
    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        for paths, text in zip(asked, expected, strict=True):
            splits = [3 * index % 10 for index in range(len(paths))]
            answer = edge.ask(QUESTION, images=paths, split=splits, codec="raw", max_new_tokens=NUM_TOKENS)
            assert answer.text() == text
            assert [one.split_point for one in answer.report.inputs] == splits


def test_command_takes_several_pictures_and_says_what_each_cost(
    cloud: str, cache: Path, pictures: list[Path], whole: Whole
) -> None:
    options = ("--image", pictures[0], "--image", pictures[1], "--split", 1, "--split", 4, "--codec", "raw")
    asked = ("ask", QUESTION, "--cloud", cloud, *options, "--max-tokens", NUM_TOKENS)
    told, as_json = (cleave(*asked, *more, cache=cache) for more in ((), ("--json",)))
    assert (told.code, as_json.code) == (0, 0), told.err + as_json.err
    text = whole(pictures[:2], QUESTION, NUM_TOKENS)
    assert told.out == printable(text) + "\n"
    first, second, total = told.err.splitlines()
    assert first.startswith("image, split 1 (")
    assert second.startswith("image, split 4 (")
    assert "bytes sent in all" in total
    answer = json.loads(as_json.out)
    assert answer["text"] == text
    assert [one["source"] for one in answer["inputs"]] == [str(path) for path in pictures[:2]]
    assert answer["uploaded_bytes"] == sum(one["uploaded_bytes"] for one in answer["inputs"])


def test_command_without_any_input_is_one_clear_error(cloud: str, cache: Path) -> None:
    result = cleave("ask", QUESTION, "--cloud", cloud, cache=cache)
    assert "give a picture or a sound" in result.require_one_clear_error()
