"""What the caller asks for, checked as far as the device can: the rest is for the cloud to say."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from edge_node.arms import Wish
from edge_node.given import GivenPicture, GivenSound, GivenText, SoundSource
from edge_node.media import ImageSource
from wire.errors import BadInput
from wire.limits import MAX_PRIORITY
from wire.v1 import inference_pb2 as pb

# One for all inputs, or one for each.
Splits = int | None | Sequence[int | None]
Codecs = str | None | Sequence[str | None]

Given = GivenPicture | GivenSound | GivenText


class Sampling(TypedDict, total=False):
    """How the answer's tokens are chosen; what is left out, or None, is the model's own default.

    `temperature` 0 takes the most likely token; above 0 it samples, and `seed` makes that repeatable: one is drawn
    where none is given. The answer ends before the first of the strings in `stop`. `language` and `task` are for
    models whose generation config lists some. Bounds are in wire/v1/inference.proto.
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
    language: str | None
    task: str | None


class EmbedOptions(TypedDict, total=False):
    """What may be said of a request for an embedding: see `AsyncEdgeNode.ask`."""

    model: str | None
    split: int | None
    codec: str | None
    deadline_s: float | None
    hash_first: bool | None
    priority: int


class HearOptions(TypedDict, total=False):
    """What may be said of speech: see `AsyncEdgeNode.ask`."""

    split: int | None
    codec: str | None
    deadline_s: float | None
    language: str | None
    task: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The media of one request, in its order: pictures, then sounds, then a text. Raises BadInput for none."""

    images: Sequence[ImageSource] = ()
    sounds: Sequence[SoundSource] = ()
    texts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("images", "sounds"):
            if not isinstance(getattr(self, name), list | tuple):
                raise BadInput(
                    f"{name} is one {name[:-1]}, and it must be a list of them; write [...] around it"
                )
        if not len(self):
            raise BadInput("there is nothing to ask about; give a picture or a sound")

    def __len__(self) -> int:
        return len(self.images) + len(self.sounds) + len(self.texts)

    @classmethod
    def of(
        cls,
        image: ImageSource | None = None,
        sound: SoundSource | None = None,
        text: str | None = None,
        images: Sequence[ImageSource] = (),
        sounds: Sequence[SoundSource] = (),
    ) -> Inputs:
        """Of single ones and lists; a single one goes first."""
        return cls(
            images=[image, *images] if image is not None else images,
            sounds=[sound, *sounds] if sound is not None else sounds,
            texts=[text] if text is not None else (),
        )

    def read(self) -> list[Given]:
        """Reads files, and decodes none; raises BadInput or TooLarge."""
        return [
            *map(GivenPicture, self.images),
            *map(GivenSound, self.sounds),
            *map(GivenText, self.texts),
        ]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of `ask` or `embed`. Raises BadInput for what no message can say."""

    inputs: Inputs
    split: Splits = None
    codec: Codecs = None
    question: str = ""
    model: str | None = None
    settings: pb.GenerationSettings | None = None
    embed: pb.Embed | None = None
    deadline_s: float | None = None
    hash_first: bool | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise BadInput(f"the deadline is {self.deadline_s:g} s, and it must be above 0")
        if self.priority not in range(MAX_PRIORITY + 1):
            raise BadInput(f"the priority is {self.priority}, and it must be from 0 to {MAX_PRIORITY}")
        try:
            self.question.encode()
        except UnicodeEncodeError as error:
            raise BadInput("the question is no valid text; write it in UTF-8") from error
        self.wishes()

    def wishes(self) -> list[Wish]:
        """One per input."""
        splits = _each("split points", self.split, len(self.inputs))
        codecs = _each("codecs", self.codec, len(self.inputs))
        return [Wish(split, codec) for split, codec in zip(splits, codecs, strict=True)]


def make_settings(sampling: Sampling) -> pb.GenerationSettings:
    """Raises TypeError for an argument that is none, and BadInput for what no request can say."""
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
    return settings


def seeded(settings: pb.GenerationSettings, samples_by_default: bool) -> pb.GenerationSettings:
    """Where tokens are drawn, the same with a seed, so that the answer can be had again.

    Without a temperature the model's own default decides, as its cloud tells it.
    """
    samples = settings.temperature > 0 if settings.HasField("temperature") else samples_by_default
    if not samples or settings.HasField("seed"):
        return settings
    drawn = pb.GenerationSettings(seed=secrets.randbits(63))
    drawn.MergeFrom(settings)
    return drawn


def index_add(index: str, item_ids: Iterable[str]) -> pb.Embed:
    """What keeps embeddings under these names; raises BadInput for a name that no message can say."""
    return _said("the names", lambda: pb.Embed(add=pb.IndexAdd(index=index, item_ids=item_ids)))


def index_search(index: str, num_hits: int) -> pb.Embed:
    """What looks for the nearest ones; raises BadInput for a name or a number that no message can say."""
    return _said("the search", lambda: pb.Embed(search=pb.IndexSearch(index=index, num_hits=num_hits)))


def _said(what: str, make: Any) -> pb.Embed:
    try:
        made: pb.Embed = make()
    except (ValueError, TypeError) as error:
        raise BadInput(f"{what} cannot be said in a request: {error}") from error
    return made


def _each(what: str, value: Any, count: int) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) not in (1, count):
        raise BadInput(f"there are {len(value)} {what} for {count} inputs; give one for all, or one for each")
    return list(value) * (count if len(value) == 1 else 1)
