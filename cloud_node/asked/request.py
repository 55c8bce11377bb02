"""What an Open asks for, checked against what this cloud serves before anything is allocated. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_node.asked.embed import Embed, parse_embed
from cloud_node.asked.inputs import RequestInput, check_count, parse_inputs
from cloud_node.asked.served import Bounds, Served
from cloud_node.asked.settings import Settings, parse_settings
from cloud_node.asked.tenants import ANYBODY, Tenant
from cloud_node.asked.trace_context import TraceContext, parse_traceparent
from wire.errors import BadInput, IncompatibleBundle, TooLarge
from wire.limits import KIB, MAX_PRIORITY, check_request_id
from wire.v1 import inference_pb2 as pb

# Objects, timers and messages of one that is open: 3.2 kB were measured, protobuf's own memory aside.
OWN_BYTES = 8 * KIB


@dataclass(frozen=True, slots=True)
class Request:
    """One question about some inputs, in terms that the runner can trust."""

    request_id: str
    prompt: str  # empty where the model takes none
    settings: Settings
    deadline_s: float  # seconds after receipt
    inputs: tuple[RequestInput, ...]
    priority: int = 0
    embed: Embed | None = None  # of a dual encoder, which generates nothing
    tenant: Tenant = ANYBODY
    model: str = ""  # the name that it is served under
    trace: TraceContext | None = None  # where its edge traces it

    @property
    def token_bounds(self) -> tuple[int, int]:
        """The fewest and the most tokens that its answer may have."""
        if self.embed is not None:
            return 0, 0
        return self.settings.min_new_tokens or 0, self.settings.max_new_tokens

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory while it is uploaded and waits: payloads, up to 4 bytes per character, and itself."""
        return sum(item.total_bytes for item in self.inputs) + 4 * len(self.prompt) + OWN_BYTES

    @property
    def decoded_bytes(self) -> int:
        """What its inputs come to once they are taken up."""
        return sum(item.decoded_bytes for item in self.inputs)


def parse_open(message: pb.Open, served: Served, bounds: Bounds, tenant: Tenant = ANYBODY) -> Request:
    """The request to a model that an Open holds; raises a CleaveError that says what it may not ask."""
    check_request_id(message.request_id)
    # First: a message of a megabyte holds half a million empty ones, and looking at each holds up everybody.
    check_count(message.inputs, bounds)
    # At split point 0 the edge has run nothing of the bundle, and need not hold it.
    if message.bundle_digest != served.bundle_digest and (
        message.bundle_digest or any(item.split_point for item in message.inputs)
    ):
        raise IncompatibleBundle(
            f"the edge holds bundle {message.bundle_digest[:12]!r} of {served.name}, and this cloud serves "
            f"{served.bundle_digest[:12]!r}; fetch it again"
        )
    inputs = parse_inputs(message.inputs, served, bounds)
    return Request(
        request_id=message.request_id,
        prompt=_prompt(message, served, bounds),
        settings=parse_settings(message.settings, served, bounds),
        deadline_s=_deadline_s(message.deadline_s, bounds),
        inputs=inputs,
        priority=_priority(message.priority),
        embed=_embed(message, served),
        tenant=tenant,
        model=served.name,
        trace=parse_traceparent(message.traceparent),
    )


def _prompt(message: pb.Open, served: Served, bounds: Bounds) -> str:
    """A generator's question; the other shapes take none."""
    kind = message.WhichOneof("prompt")
    shape = served.manifest.shape
    if shape != "generator":
        if kind is not None and (kind != "text" or message.text):
            raise BadInput(f"{served.name} takes no prompt beside its inputs; leave it empty")
        if shape == "encoder-decoder" and len(message.inputs) != 1:
            raise BadInput(
                f"{served.name} reads one input per request, and {len(message.inputs)} came; ask one by one"
            )
        return ""
    if kind != "text":
        raise BadInput("this cloud takes a prompt as text, and the request has none")
    most = bounds.limits.max_prompt_chars
    if len(message.text) > most:
        raise TooLarge(f"the prompt has {len(message.text):,} characters, and at most {most:,} are taken")
    if not message.text.strip():
        raise BadInput("the prompt is empty; ask a question")
    return message.text


def _embed(message: pb.Open, served: Served) -> Embed | None:
    is_dual = served.manifest.shape == "dual encoder"
    if is_dual and not message.HasField("embed"):
        raise BadInput(f"{served.name} generates nothing; ask for embeddings, or search")
    if not is_dual and message.HasField("embed"):
        raise BadInput(f"{served.name} makes no embeddings to compare; ask a dual encoder")
    return parse_embed(message.embed, len(message.inputs)) if is_dual else None


def _priority(asked: int) -> int:
    if asked > MAX_PRIORITY:
        raise BadInput(f"the priority is {asked}, and it must be from 0 to {MAX_PRIORITY}")
    return asked


def _deadline_s(asked_s: float, bounds: Bounds) -> float:
    if not asked_s >= 0:
        raise BadInput(
            f"the deadline is {asked_s:g} s, and it must be above 0; leave it out for the cloud's own"
        )
    return min(asked_s or bounds.default_deadline_s, bounds.max_deadline_s)
