"""What the caller asks for, checked as far as the device can: the rest is for the cloud to say."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from edge_node.media import ImageSource
from wire.errors import BadInput
from wire.limits import MAX_PRIORITY
from wire.v1 import inference_pb2 as pb


class Sampling(TypedDict, total=False):
    """How the answer's tokens are chosen; what is left out, or None, is the model's own default.

    `temperature` 0 takes the most likely token; above 0 it samples, and `seed` makes that repeatable. The answer
    ends before the first of the strings in `stop`. Bounds are in wire/v1/inference.proto.
    """

    max_new_tokens: int | None
    min_new_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: Sequence[str]


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
    hash_first: bool | None
    priority: int

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise BadInput(f"the deadline is {self.deadline_s:g} s, and it must be above 0")
        if self.priority not in range(MAX_PRIORITY + 1):
            raise BadInput(f"the priority is {self.priority}, and it must be from 0 to {MAX_PRIORITY}")
        try:
            self.question.encode()
        except UnicodeEncodeError as error:
            raise BadInput("the question is no valid text; write it in UTF-8") from error


def make_settings(sampling: Sampling) -> pb.GenerationSettings:
    """Sampling gets a seed, so that the answer can be had again. Raises TypeError for an argument that is none."""
    unknown = sorted(set(sampling) - set(Sampling.__annotations__))
    if unknown:
        raise TypeError(f"ask() got an unexpected keyword argument {unknown[0]!r}")
    stop = sampling.get("stop", ())
    if isinstance(stop, str):
        raise BadInput(f"stop is {stop!r}, and it must be a list of strings; write [{stop!r}]")
    settings = pb.GenerationSettings()
    for name, value in sampling.items():
        try:
            if name == "stop":
                settings.stop.extend(stop)
            elif value is not None:
                setattr(settings, name, value)
        except (ValueError, TypeError) as error:
            raise BadInput(f"{name} is {value!r}, which no request can say: {error}") from error
    if settings.temperature and not settings.HasField("seed"):
        settings.seed = secrets.randbits(63)
    return settings
