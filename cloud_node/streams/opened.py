"""A request that is open: what of it has come, how far its answer is, and the stream that it is on, if any."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from cloud_node.asked.held_bytes import Hold
from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Event, TextDelta
from cloud_node.caching.flights import Flight
from cloud_node.caching.held_arms import Held
from cloud_node.streams.host import Hosted
from cloud_node.streams.messages import have_answer_message, need_message
from cloud_node.streams.upload import Uploads
from cloud_node.telemetry.metrics import CacheUse
from wire.errors import CleaveError, DeadlineExceeded
from wire.v1 import inference_pb2 as pb

_CACHE_USES: dict[pb.Cache.ValueType, CacheUse] = {pb.CACHE_FEATURES: "features", pb.CACHE_ANSWER: "answer"}


class Line(Protocol):
    """The stream that a request is on."""

    def put(self, down: pb.Down, *, is_urgent: bool = True) -> None: ...
    def put_delta(self, request_id: str, delta: TextDelta) -> None: ...
    def left(self, request_id: str) -> None: ...  # it has ended, or is on another stream now


class RequestKey(NamedTuple):
    """What a request is found by: an id means nothing to another tenant, or on another device."""

    tenant: str
    edge_id: str
    request_id: str


@dataclass(slots=True, eq=False)
class OpenRequest:
    """`hear` is told what becomes of it. Inputs are referred to by their position.

    While its edge is away it has no line: what is said then is kept in `said` and `ending`.
    """

    key: RequestKey
    hosted: Hosted  # the bundle that it is asked of
    asked: Request  # as it came; `request` is what is answered, maybe from other features
    request: Request
    hear: Callable[[OpenRequest, Event], None]
    received_bytes: list[int]  # of each input's payload
    opened_s: float  # monotonic, as is the next
    ready_s: float  # when the last byte came that it needs
    line: Line | None = None
    deadline: asyncio.TimerHandle | None = None
    payloads: dict[int, memoryview] = field(default_factory=dict)  # those that are here, whole
    feature_keys: dict[int, bytes] = field(
        default_factory=dict
    )  # of payloads that came from the cache, or are kept
    held: list[list[Held]] = field(default_factory=list)  # of each input, what its tenant's clients had sent
    uploads: Uploads | None = None
    hold: Hold | None = None  # on the memory of its payloads, until they are in flight
    flight: Flight | None = None
    said: list[TextDelta] = field(default_factory=list)
    ending: list[pb.Down] = field(default_factory=list)
    cache: pb.Cache.ValueType = pb.CACHE_MISS
    cache_s: float = 0.0  # spent on looking into the cache
    ttft_s: float | None = None  # from `ready_s` to its first text
    is_over: bool = False

    @property
    def cache_use(self) -> CacheUse:
        return _CACHE_USES.get(self.cache, "miss")

    @property
    def deadline_at_s(self) -> float:
        """On the loop's clock, which is `time.monotonic`."""
        return self.deadline.when() if self.deadline is not None else math.inf

    @property
    def holder(self) -> Hashable:
        """Who shares memory with others: an edge, or a stream of one that does not name itself."""
        return (self.key.tenant, self.key.edge_id) if self.key.edge_id else id(self.line)

    @property
    def missing(self) -> list[int]:
        """The inputs whose payloads are not here."""
        return [index for index in range(len(self.request.inputs)) if index not in self.payloads]

    @property
    def awaits_payloads(self) -> bool:
        """Whether bytes are to come that did not come with the Open."""
        sizes = [item.total_bytes for item in self.request.inputs]
        return any(self.received_bytes[index] < sizes[index] for index in self.missing)

    @property
    def num_said(self) -> int:
        """Tokens."""
        return self.said[-1].token_index + self.said[-1].num_tokens if self.said else 0

    def take_cached(self, index: int, item: RequestInput, feature_key: bytes, payload: memoryview) -> None:
        """An input's features were in the cache, maybe of another arm than its edge's."""
        inputs = list(self.request.inputs)
        inputs[index] = item
        self.request = replace(self.request, inputs=tuple(inputs))
        self.payloads[index] = payload
        self.feature_keys[index] = feature_key
        self.cache = pb.CACHE_FEATURES

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """While the cache is asked."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.cache_s += time.monotonic() - began_s

    def take_payloads(self) -> tuple[memoryview, ...]:
        """All payloads, in the inputs' order, which are held no longer."""
        taken = tuple(self.payloads[index] for index in range(len(self.request.inputs)))
        self.payloads = {}
        return taken

    def expired(self) -> CleaveError:
        """What it ends with when its time is over."""
        return DeadlineExceeded(
            f"the request took longer than its deadline of {self.request.deadline_s:g} s; allow more, or ask for less"
        )

    def tell(self, event: Event) -> None:
        """What a flight calls."""
        self.hear(self, event)

    def say(self, down: pb.Down, *, is_urgent: bool = True) -> None:
        """To the edge, if it is there."""
        if self.line is not None:
            self.line.put(down, is_urgent=is_urgent)

    def say_delta(self, delta: TextDelta, now_s: float) -> None:
        """Text, which is kept for an edge that comes back; the first is what it waits for."""
        if self.ttft_s is None:
            self.ttft_s = now_s - self.ready_s
        self.said.append(delta)
        if self.line is not None:
            self.line.put_delta(self.key.request_id, delta)

    def say_ending(self, *downs: pb.Down) -> None:
        """The last that is said of it. It is over, and lets go of what it held."""
        self.is_over = True
        self.ending = list(downs)
        self.let_go()
        if self.deadline is not None:
            self.deadline.cancel()
        if self.uploads is not None:
            self.uploads.close()
            self.uploads = None
        for down in downs:
            self.say(down)
        self.leave_line()

    def let_go(self) -> None:
        """Of its payloads, and of the memory that it had for them."""
        self.payloads = {}
        if self.hold is not None:
            self.hold.give_back()

    def leave_line(self) -> None:
        line, self.line = self.line, None
        if line is not None:
            line.left(self.key.request_id)

    def go_on(self, line: Line, received_tokens: int) -> None:
        """On another stream, whose edge has these first tokens: says how far it is, and what the edge lacks."""
        self.leave_line()
        self.line = line
        if self.uploads is not None:
            for index in self.uploads.incomplete():
                self.say(need_message(self.key.request_id, index, self.uploads.received_bytes(index)))
            self.uploads.expect()
        elif self.is_over or self.said or self.flight is not None:
            self.say(have_answer_message(self.key.request_id, sum(self.received_bytes), self.num_said))
        for delta in unheard(self.said, received_tokens):
            line.put_delta(self.key.request_id, delta)


def unheard(said: list[TextDelta], received_tokens: int) -> list[TextDelta]:
    """What follows the first tokens; all of it where they end inside a delta, whose text cannot be divided."""
    rest = [delta for delta in said if delta.token_index >= received_tokens]
    begins = rest[0].token_index if rest else (said[-1].token_index + said[-1].num_tokens if said else 0)
    return rest if begins == received_tokens else said
