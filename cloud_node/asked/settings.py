"""How the tokens of an answer are chosen, as a request asks for it, within what model and operator allow. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cloud_node.asked.served import Bounds, Served
from wire.errors import BadInput
from wire.limits import MAX_STOP_CHARS, MAX_STOP_STRINGS
from wire.v1 import inference_pb2 as pb

_MAX_WORD_CHARS = 32
_RANGES = (
    ("temperature", 0.0, 100.0),
    ("top_p", 1e-6, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 1e-3, 100.0),
)
_PLAIN = ("min_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


@dataclass(frozen=True, slots=True)
class Settings:
    """How tokens are chosen; None stands for the model's own default."""

    max_new_tokens: int
    min_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()  # the answer ends before the first of these
    language: str | None = None  # as the model's generation config lists it
    task: str | None = None

    def is_repeatable(self, samples_by_default: bool) -> bool:
        """Whether asking again gives the same tokens: nothing is drawn, or all draws follow from the seed."""
        samples = samples_by_default if self.temperature is None else self.temperature > 0
        return not samples or self.seed is not None

    def generate_arguments(self) -> dict[str, Any]:
        """The same as keyword arguments of the model's own `generate`."""
        plain = (
            "max_new_tokens", "min_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty", "language", "task",
        )  # fmt: skip
        arguments = {name: getattr(self, name) for name in plain if getattr(self, name) is not None}
        if self.temperature is not None:
            arguments["do_sample"] = self.temperature > 0
            if self.temperature > 0:
                arguments["temperature"] = self.temperature
        return arguments


def parse_settings(message: pb.GenerationSettings, served: Served, bounds: Bounds) -> Settings:
    """Raises BadInput for a setting out of bounds, or that the model does not have."""
    given: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    most = bounds.limits.max_new_tokens
    max_new_tokens = given.get("max_new_tokens", most)
    _check("max_new_tokens", max_new_tokens, 1, most)
    _check("min_new_tokens", given.get("min_new_tokens"), 0, max_new_tokens)
    for name, least, greatest in _RANGES:
        _check(name, given.get(name), least, greatest)
    return Settings(
        max_new_tokens=max_new_tokens,
        stop=_stop(message.stop),
        language=_listed("language", given.get("language"), served.languages, served),
        task=_listed("task", given.get("task"), served.tasks, served),
        **{name: given[name] for name in _PLAIN if name in given},
    )


def _listed(what: str, asked: str | None, listed: Sequence[str], served: Served) -> str | None:
    """The model's own word for what was asked: "fr" stands for "<|fr|>", too."""
    if asked is None:
        return None
    for word in (asked, f"<|{asked}|>"):
        if word in listed:
            return word
    shown = asked[:_MAX_WORD_CHARS]
    if not listed:
        raise BadInput(f"{served.name} lists no {what}s, and the request names {shown!r}; leave it out")
    words = ", ".join(word.removeprefix("<|").removesuffix("|>") for word in listed[:_MAX_WORD_CHARS])
    raise BadInput(f"{served.name} has no {what} {shown!r}; it has {words}")


def _stop(strings: Sequence[str]) -> tuple[str, ...]:
    if len(strings) > MAX_STOP_STRINGS:
        raise BadInput(f"there are {len(strings)} stop strings, and at most {MAX_STOP_STRINGS} are taken")
    for string in strings:
        if not 1 <= len(string) <= MAX_STOP_CHARS:
            raise BadInput(
                f"a stop string has {len(string)} characters, and it must have 1 to {MAX_STOP_CHARS}"
            )
    return tuple(strings)


def _check(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise BadInput(f"{name} is {value:g}, and it must be from {least:g} to {most:g}")
