"""What the caller asks for, checked as far as the device can: the rest is for the cloud to say."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from edge_node.media import ImageSource
from wire.errors import BadInput
from wire.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of `ask`. Raises BadInput for what no message can say."""

    question: str
    image: ImageSource
    model: str | None
    split: int | None
    codec: str | None
    settings: pb.GenerationSettings
    deadline_s: float | None

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise BadInput(f"the deadline is {self.deadline_s:g} s, and it must be above 0")
        try:
            self.question.encode()
        except UnicodeEncodeError as error:
            raise BadInput("the question is no valid text; write it in UTF-8") from error


def make_settings(
    max_new_tokens: int | None, temperature: float | None, seed: int | None
) -> pb.GenerationSettings:
    """Sampling gets a seed, so that the answer can be had again."""
    if temperature and seed is None:
        seed = secrets.randbits(63)
    try:
        return pb.GenerationSettings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"max_new_tokens {max_new_tokens}, temperature {temperature} and seed {seed} do not all fit: {error}"
        ) from error
