"""How well a model answers: exact match per kind of question, through its own processor and `generate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from training.easy_vqa import read_easy_vqa
from training.questions import questions
from training.scenes import FIRST_HELD_OUT_SEED, scene

_QUESTIONS_PER_SCENE = 4
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, a question about it, and the one right answer."""

    image: Image.Image
    kind: str
    question: str
    answer: str


def held_out_samples(count: int) -> Iterator[Sample]:
    """Questions about scenes, and digits, that training never shows; the same ones for the same count."""
    made = 0
    seed = FIRST_HELD_OUT_SEED
    while made < count:
        one = scene(seed)
        seed += 1
        for question in questions(one, _QUESTIONS_PER_SCENE)[: count - made]:
            made += 1
            yield Sample(one.image, question.kind, question.text, question.answer)


def easy_vqa_samples(archive: Path, split: str = "test") -> Iterator[Sample]:
    """easy-VQA's official questions of a split."""
    for picture in read_easy_vqa(archive, split):
        for question in picture.questions:
            yield Sample(picture.image, question.kind, question.text, question.answer)


def answers(
    model: Any, processor: Any, samples: Sequence[Sample], advance: Callable[[int], None]
) -> list[str]:
    """Greedy answers; questions of equal length share a batch, so that no padding is involved."""
    texts = [_prompt(processor, sample.question) for sample in samples]
    lengths = [len(processor.tokenizer.encode(text)) for text in texts]
    order = sorted(range(len(samples)), key=lambda index: lengths[index])
    given = [""] * len(samples)
    for group in _equal_runs(order, lengths):
        inputs = processor(
            text=[texts[i] for i in group], images=[samples[i].image for i in group], return_tensors="pt"
        )
        with torch.no_grad():
            tokens = model.generate(**inputs.to(model.device), do_sample=False)
        decoded = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(group, decoded, strict=True):
            given[index] = text.strip()
        advance(len(group))
    return given


def exact_match(samples: Sequence[Sample], given: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Per kind: how many answers equal the right one, of how many."""
    found: dict[str, tuple[int, int]] = {}
    for sample, answer in zip(samples, given, strict=True):
        right, total = found.get(sample.kind, (0, 0))
        found[sample.kind] = (right + (answer == sample.answer), total + 1)
    return found


def _prompt(processor: Any, question: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _equal_runs(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for index in order:
        if run and (len(run) == _BATCH or lengths[index] != lengths[run[0]]):
            yield run
            run = []
        run.append(index)
    if run:
        yield run
