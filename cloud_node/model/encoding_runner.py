"""A runner for models that generate nothing: all is done once their inputs are encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from cloud_node.asked.sequence import Embeddings
from cloud_node.asked.sequence import Sequence as Generation
from cloud_node.model.prepare import Preparer


class EncodingRunner:
    """Prepares; nothing that it prepares has a step."""

    def __init__(self, preparer: Preparer) -> None:
        self.preparer = preparer

    def prepare(self, sequences: Sequence[Generation]) -> Iterator[Exception | Embeddings | None]:
        return self.preparer.prepare(sequences)

    def begin(self, prompt: Any, row: int) -> NoReturn:
        raise AssertionError("a model that generates nothing has no rows")

    def read(self, prompt: Any, row: int, start: int, stop: int) -> NoReturn:
        self.begin(prompt, row)

    def step(self, prompts: Sequence[Any], first_row: int = 0) -> NoReturn:
        self.begin(prompts, first_row)

    def move(self, source: int, target: int, prompt: Any) -> NoReturn:
        self.begin(prompt, source)
