"""Writes the demo's pictures and questions: held-out scenes, one question of every kind, that the model answers.

The last picture gets a second question.

python -m training.samples --model assets/default --out assets/samples
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import AutoModelForImageTextToText, AutoProcessor

from training.evaluate import Sample, answers
from training.questions import KINDS, questions
from training.scenes import FIRST_HELD_OUT_SEED, scene

# Beyond the scenes that accuracy is measured on.
_FIRST_SEED = FIRST_HELD_OUT_SEED + (1 << 20)
_MOST_TRIED = 50  # scenes per kind


def pick(is_answered: Callable[[Sample], bool]) -> list[Sample]:
    """Per kind the first scene, in the order of seeds, whose question is answered; every scene is used once."""
    chosen: list[Sample] = []
    for index, kind in enumerate(KINDS):
        first = _FIRST_SEED + index * _MOST_TRIED
        found = next(filter(is_answered, _candidates(kind, first)), None)
        if found is None:
            raise SystemExit(f"none of {_MOST_TRIED} questions of kind {kind} is answered: train for longer")
        chosen.append(found)
    return chosen


def pick_second(sample: Sample, is_answered: Callable[[Sample], bool]) -> Sample:
    """Another question about a sample's picture, of another kind, that is answered."""
    index = list(KINDS).index(sample.kind)
    first = _FIRST_SEED + index * _MOST_TRIED
    seed = next(
        at for at in range(first, first + _MOST_TRIED) if scene(at).image.tobytes() == sample.image.tobytes()
    )
    others = [Sample(sample.image, one.kind, one.text, one.answer) for one in questions(scene(seed), 20)]
    return next(one for one in others if one.kind != sample.kind and is_answered(one))


def _candidates(kind: str, first: int) -> Iterator[Sample]:
    for seed in range(first, first + _MOST_TRIED):
        one = scene(seed)
        found = [question for question in questions(one, 20) if question.kind == kind]
        if found and len(one.things) > 1:
            yield Sample(one.image, kind, found[0].text, found[0].answer)


def main(
    model: Annotated[Path, typer.Option(help="The checkpoint that must answer them.")],
    out: Annotated[Path, typer.Option(help="The folder for pictures and samples.json.")],
) -> None:
    """Write the samples."""
    loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(model, backend="pil")
    out.mkdir(parents=True, exist_ok=True)

    def is_answered(one: Sample) -> bool:
        return answers(loaded, processor, [one], lambda _: None) == [one.answer]

    listed = []
    chosen = pick(is_answered)
    for sample in chosen:
        name = f"{sample.kind}.png"
        sample.image.save(out / name, optimize=True)
        listed.append({"image": name, "question": sample.question, "answer": sample.answer})
    second = pick_second(chosen[-1], is_answered)
    listed.append({"image": listed[-1]["image"], "question": second.question, "answer": second.answer})
    (out / "samples.json").write_text(json.dumps(listed, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
