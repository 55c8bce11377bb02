"""Questions of many kinds for the real tiny model, and what must hold of their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from cloud_node.model.runner import ModelRunner
from tests.kit.generations import Asked, Driven

COLOURS = [(200, 30, 90), (10, 200, 60), (0, 0, 255), (250, 250, 250), (90, 90, 20)]


@dataclass(frozen=True)
class Question:
    """What is asked, and at which step it arrives."""

    colour: int
    prompt: str
    split: int = 0
    codec: str = "raw"
    at_step: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def picture(self) -> Image.Image:
        picture = Image.new("RGB", (48, 48), COLOURS[self.colour])
        picture.paste((7 * self.colour, 99, 40), (4, 6, 20 + self.colour, 30))
        return picture

    def ask(self, runner: ModelRunner) -> Asked:
        return Asked(runner, self.picture, self.prompt, split=self.split, codec=self.codec, **self.settings)


LONG = "how many things are there? " * 2
MIXED = [
    Question(0, "what?", settings={"max_new_tokens": 30}),
    Question(1, "how many?", split=3, settings={"max_new_tokens": 12}),
    Question(2, LONG, split=5, codec="fp16", settings={"temperature": 1.0, "seed": 7}),
    Question(3, "the circle", split=9, codec="int8"),
    Question(4, "red", at_step=1, split=1, settings={"max_new_tokens": 1}),
    Question(0, LONG, at_step=2, split=2, settings={"max_new_tokens": 25, "min_new_tokens": 25}),
    Question(1, "what colour?", at_step=2, codec="bf16", settings={"temperature": 0.7, "top_p": 0.9, "seed": 1}),
    Question(2, "what?", at_step=4, split=8, settings={"repetition_penalty": 1.6, "max_new_tokens": 20}),
    Question(3, "é?", at_step=5, split=4, codec="fp16", settings={"temperature": 1.5, "top_k": 9, "seed": 2**40}),
    Question(4, LONG, at_step=7, split=9, settings={"max_new_tokens": 3}),
    Question(0, "is it red?", at_step=7, split=6, codec="int8", settings={"min_new_tokens": 10, "max_new_tokens": 14}),
    Question(1, "things", at_step=9, split=7, settings={"temperature": 1.0, "min_p": 0.05, "seed": 3}),
    Question(2, "how?", at_step=15, settings={"max_new_tokens": 40, "min_new_tokens": 20}),
]  # fmt: skip


def drive(runner: ModelRunner, asked: list[tuple[int, Asked]], **settings: Any) -> Driven:
    """Submits each at its step, those of one step together, and steps until all have ended."""
    driven = Driven(runner, **{"num_slots": 4, "chunk_tokens": 8, **settings})
    for step in range(max(at for at, _ in asked) + 1):
        driven.submit(*(one for at, one in asked if at == step))
        driven.step()
    driven.finish()
    return driven


def require_nothing_left(driven: Driven) -> None:
    assert driven.scheduler.slots.num_used == 0
    assert not driven.scheduler.waiting
    assert not driven.batch.has_work


def require_same(asked: Asked, alone: Asked) -> None:
    assert asked.token_ids == alone.token_ids
    assert asked.text == alone.text
    assert asked.finished.reason is alone.finished.reason
    assert asked.finished.generated_tokens == alone.finished.generated_tokens == len(asked.token_ids)
