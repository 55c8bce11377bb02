"""What an Open asks for, checked against what this cloud serves before anything is allocated. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wire.codecs import Codec, check_payload_sizes, find_codec
from wire.errors import (
    BadInput,
    IncompatibleBundle,
    MalformedMessage,
    TooLarge,
    UnknownModel,
    UnknownSplitPoint,
)
from wire.limits import (
    KEY_BYTES,
    MAX_IMAGE_ASPECT,
    MAX_IMAGE_PIXELS,
    MAX_PRIORITY,
    MAX_STOP_CHARS,
    MAX_STOP_STRINGS,
    Limits,
    check_request_id,
)
from wire.manifest import Chain, Manifest
from wire.tensors import TensorSpec, check_headers
from wire.v1 import inference_pb2 as pb

_MAX_SIDE = 65_535


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

    def is_repeatable(self, samples_by_default: bool) -> bool:
        """Whether asking again gives the same tokens: nothing is drawn, or all draws follow from the seed."""
        samples = samples_by_default if self.temperature is None else self.temperature > 0
        return not samples or self.seed is not None

    def generate_arguments(self) -> dict[str, Any]:
        """The same as keyword arguments of the model's own `generate`."""
        plain = ("max_new_tokens", "min_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty")
        arguments = {name: getattr(self, name) for name in plain if getattr(self, name) is not None}
        if self.temperature is not None:
            arguments["do_sample"] = self.temperature > 0
            if self.temperature > 0:
                arguments["temperature"] = self.temperature
        return arguments


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one picture, in terms that the runner can trust."""

    request_id: str
    prompt: str
    settings: Settings
    deadline_s: float  # seconds after receipt
    width: int  # of the picture, pixels
    height: int
    split_point: int
    codec: str
    payload_sizes: tuple[int, ...]  # bytes of each coded tensor
    crc32: int
    input_key: bytes = b""  # what the edge says the features were made of; empty: not said
    priority: int = 0

    @property
    def payload_bytes(self) -> int:
        return sum(self.payload_sizes)


@dataclass(frozen=True, slots=True)
class Served:
    """One model as this cloud serves it: its bundle, and why a split point is not served."""

    name: str
    manifest: Manifest
    bundle_digest: str
    refused: dict[int, str]  # split point -> reason
    samples_by_default: bool = False  # where a request names no temperature
    defaults_digest: str = ""  # of the generation config and the chat template: they decide answers, too
    tail_batching: str = "one by one"  # how tails of several requests run; or "vmap"

    @property
    def chain(self) -> Chain:
        return self.manifest.chains[0]

    def boundary(self, split_point: int) -> Sequence[TensorSpec]:
        """The tensors at a split point; raises UnknownSplitPoint where it is none or not served."""
        last = len(self.chain.split_points) - 1
        if split_point > last:
            raise UnknownSplitPoint(f"{self.name} has the split points 0 to {last}, not {split_point}")
        if split_point in self.refused:
            raise UnknownSplitPoint(
                f"split point {split_point} is not served here: {self.refused[split_point]}; use another one"
            )
        return [entry.spec() for entry in self.chain.split_points[split_point].tensors]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operator allows one request."""

    limits: Limits
    default_deadline_s: float
    max_deadline_s: float


def parse_open(message: pb.Open, served: Served, bounds: Bounds) -> Request:
    """The request that an Open holds; raises a CleaveError that says what it may not ask."""
    check_request_id(message.request_id)
    if message.model != served.name:
        raise UnknownModel(
            f"this cloud serves {served.name!r}, not {message.model[:256]!r}; see `cleave describe`"
        )
    if message.bundle_digest != served.bundle_digest:
        raise IncompatibleBundle(
            f"the edge holds bundle {message.bundle_digest[:12]!r} of {served.name}, and this cloud serves "
            f"{served.bundle_digest[:12]!r}; fetch it again"
        )
    if len(message.inputs) != 1 or message.inputs[0].modality != pb.MODALITY_IMAGE:
        raise BadInput(f"a request holds exactly one picture, and this one has {len(message.inputs)} inputs")
    item = message.inputs[0]
    codec, sizes = _payload(item, served, bounds)
    width, height = _picture_size(item.image)
    return Request(
        request_id=message.request_id,
        prompt=_prompt(message, bounds),
        settings=_settings(message.settings, bounds),
        deadline_s=_deadline_s(message.deadline_s, bounds),
        width=width,
        height=height,
        split_point=item.split_point,
        codec=str(codec),
        payload_sizes=sizes,
        crc32=item.crc32,
        input_key=_input_key(item.input_key),
        priority=_priority(message.priority),
    )


def _payload(item: pb.Input, served: Served, bounds: Bounds) -> tuple[Codec, tuple[int, ...]]:
    shape_id = served.chain.input_shape.shape_id
    if item.shape_id != shape_id:
        raise BadInput(f"{served.name} lists the input shape {shape_id!r}, not {item.shape_id[:64]!r}")
    boundary = served.boundary(item.split_point)
    codec = find_codec(item.codec_id, item.setting)
    sizes = check_headers(item.tensors, boundary)
    check_payload_sizes(codec, sizes, boundary)
    if item.total_bytes != sum(sizes):
        raise MalformedMessage(
            f"the tensors come to {sum(sizes):,} bytes, and total_bytes says {item.total_bytes:,}"
        )
    if item.total_bytes > bounds.limits.max_request_bytes:
        raise TooLarge(
            f"the features have {item.total_bytes:,} bytes, and this cloud takes "
            f"{bounds.limits.max_request_bytes:,}; use another split point or codec"
        )
    if item.payload and len(item.payload) != item.total_bytes:
        raise MalformedMessage(
            f"the Open holds {len(item.payload):,} of {item.total_bytes:,} bytes of features"
        )
    if len(item.payload) > bounds.limits.max_inline_bytes:
        raise TooLarge(
            f"an Open holds at most {bounds.limits.max_inline_bytes:,} bytes of features; send chunks"
        )
    return codec, tuple(sizes)


def _input_key(key: bytes) -> bytes:
    if len(key) not in (0, KEY_BYTES):
        raise MalformedMessage(f"input_key has {len(key)} bytes, and it has {KEY_BYTES}, or none")
    return key


def _priority(asked: int) -> int:
    if asked > MAX_PRIORITY:
        raise BadInput(f"the priority is {asked}, and it must be from 0 to {MAX_PRIORITY}")
    return asked


def _prompt(message: pb.Open, bounds: Bounds) -> str:
    if message.WhichOneof("prompt") != "text":
        raise BadInput("this cloud takes a prompt as text, and the request has none")
    most = bounds.limits.max_prompt_chars
    if len(message.text) > most:
        raise TooLarge(f"the prompt has {len(message.text):,} characters, and at most {most:,} are taken")
    if not message.text.strip():
        raise BadInput("the prompt is empty; ask a question")
    return message.text


def _deadline_s(asked_s: float, bounds: Bounds) -> float:
    if not asked_s >= 0:
        raise BadInput(
            f"the deadline is {asked_s:g} s, and it must be above 0; leave it out for the cloud's own"
        )
    return min(asked_s or bounds.default_deadline_s, bounds.max_deadline_s)


def _settings(message: pb.GenerationSettings, bounds: Bounds) -> Settings:
    def given(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]

    most = bounds.limits.max_new_tokens
    max_new_tokens = given("max_new_tokens") if message.HasField("max_new_tokens") else most
    _check("max_new_tokens", max_new_tokens, 1, most)
    _check("min_new_tokens", given("min_new_tokens"), 0, max_new_tokens)
    _check("temperature", given("temperature"), 0, 100)
    _check("top_p", given("top_p"), 1e-6, 1)
    _check("min_p", given("min_p"), 0, 1)
    _check("repetition_penalty", given("repetition_penalty"), 1e-3, 100)
    return Settings(
        max_new_tokens=max_new_tokens,
        stop=_stop(message.stop),
        **{
            name: given(name)
            for name in Settings.__dataclass_fields__
            if name not in ("max_new_tokens", "stop")
        },
    )


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


def _picture_size(size: pb.ImageSize) -> tuple[int, int]:
    """Width and height, pixels: a blank picture of that size is made, so both are bounded."""
    width, height = size.width, size.height
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise MalformedMessage(f"the picture is {width} x {height}, and a side has 1 to {_MAX_SIDE:,} pixels")
    if width * height > MAX_IMAGE_PIXELS:
        raise TooLarge(f"the picture is {width} x {height}, and has at most {MAX_IMAGE_PIXELS:,} pixels")
    if max(width, height) > MAX_IMAGE_ASPECT * min(width, height):
        raise BadInput(
            f"the picture is {width} x {height}, and one side is at most {MAX_IMAGE_ASPECT} times the other"
        )
    return width, height
