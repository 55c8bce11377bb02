"""One cloud process for all tests that do not end it, and what edges keep of its bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cleave.processes import cloud_process
from tests.kit.pictures import written


@pytest.fixture(scope="session")
def cloud(tiny_checkpoint: Path, tiny_bundle: Path) -> Iterator[str]:
    """The address of a `cleave cloud` process that computes every answer: its cache would repeat another arm's."""
    with cloud_process(str(tiny_checkpoint), tiny_bundle, "--cache-mb", "0") as (address, _):
        yield address


@pytest.fixture(scope="module")
def caching_cloud(tiny_checkpoint: Path, tiny_bundle: Path) -> Iterator[str]:
    """The same, with its cache."""
    with cloud_process(str(tiny_checkpoint), tiny_bundle) as (address, _):
        yield address


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    sizes = [(64, 48), (30, 90), (200, 50)]
    return [written(folder / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def whole_answer(tiny_checkpoint: Path) -> Callable[[Path, str, int], str]:
    """What the whole model answers: its own processor and `generate`, nothing of ours."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(tiny_checkpoint, backend="pil")
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval()

    def answer(path: Path, question: str, num_tokens: int) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = processor(text=text, images=Image.open(path).convert("RGB"), return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=num_tokens, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        return str(processor.tokenizer.decode(new, skip_special_tokens=True))

    return answer
