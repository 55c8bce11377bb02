"""Writes the demo's pictures and questions: held-out scenes, one question of every kind, answers from the scene.

python -m training.samples --out assets/samples
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from training.questions import KINDS, Question, questions
from training.scenes import FIRST_HELD_OUT_SEED, Scene, scene

# Beyond the scenes that accuracy is measured on.
_FIRST_SEED = FIRST_HELD_OUT_SEED + (1 << 20)


def pick() -> list[tuple[Scene, Question]]:
    """The first scene, in the order of seeds, that can be asked each kind; every scene is used once."""
    chosen: list[tuple[Scene, Question]] = []
    seed = _FIRST_SEED
    for kind in KINDS:
        while True:
            one = scene(seed)
            seed += 1
            found = [question for question in questions(one, 20) if question.kind == kind]
            if found and len(one.things) > 1:
                chosen.append((one, found[0]))
                break
    return chosen


def main(out: Annotated[Path, typer.Option(help="The folder for pictures and samples.json.")]) -> None:
    """Write the samples."""
    out.mkdir(parents=True, exist_ok=True)
    samples = []
    for one, question in pick():
        name = f"{question.kind}.png"
        one.image.save(out / name, optimize=True)
        samples.append({"image": name, "question": question.text, "answer": question.answer})
    (out / "samples.json").write_text(json.dumps(samples, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
