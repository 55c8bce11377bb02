"""How an open request gets its answer: from the cache, from an equal request in flight, or from the engine.

Every step that waits for the store looks afterwards whether the request is still open: its deadline may have
ended it, or its edge may have gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cloud_node.cache import Cache, Features
from cloud_node.flights import Flight, Flights
from cloud_node.messages import have_answer_message, have_features_message
from cloud_node.metrics import CacheUse
from cloud_node.request import Request, Served
from cloud_node.sequence import Event, Finished, StepTimes, TextDelta
from cloud_node.upload import Upload
from wire.errors import CleaveError
from wire.v1 import inference_pb2 as pb

_CACHE_USES: dict[pb.Cache.ValueType, CacheUse] = {pb.CACHE_FEATURES: "features", pb.CACHE_ANSWER: "answer"}


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request that is open on a stream; `hear` is told what becomes of it."""

    request: Request
    hear: Callable[[OpenRequest, Event], None]
    received_bytes: int  # of its payload
    ready_s: float  # when the last byte came that it needs, monotonic
    upload: Upload | None = None
    flight: Flight | None = None
    cache: pb.Cache.ValueType = pb.CACHE_MISS
    ttft_s: float | None = None  # from `ready_s` to its first text
    is_over: bool = False

    @property
    def cache_use(self) -> CacheUse:
        return _CACHE_USES.get(self.cache, "miss")

    def tell(self, event: Event) -> None:
        """What a flight calls."""
        self.hear(self, event)

    def has_text(self, now_s: float) -> None:
        """Text came; the first is what the edge waits for."""
        if self.ttft_s is None:
            self.ttft_s = now_s - self.ready_s


class Answering:
    """What the streams of one cloud do with a request; `say` puts a message on this one."""

    def __init__(
        self, cache: Cache, flights: Flights, served: Served, say: Callable[[pb.Down], None]
    ) -> None:
        self._cache = cache
        self._flights = flights
        self._served = served
        self._say = say

    async def without_payload(self, opened: OpenRequest) -> bool:
        """Answers from what the cloud holds by now; False where the request is open and needs its payload."""
        claimed = await self._cache.claimed(opened.request, self._served)
        if claimed is None:
            return opened.is_over
        key = self._cache.answer_key(opened.request, self._served, claimed)
        if await self._repeat(opened, key):
            return True
        features = await self._cache.features(claimed)
        if features is None or opened.is_over:
            return opened.is_over
        opened.cache = pb.CACHE_FEATURES
        opened.request = replace(opened.request, payload_sizes=features.payload_sizes)
        self._say(have_features_message(opened.request.request_id, opened.received_bytes))
        self._compute(opened, key, features.payload)
        return True

    async def with_payload(self, opened: OpenRequest, payload: memoryview) -> None:
        """Answers a request whose payload has come whole, and keeps the features; raises Overloaded."""
        opened.ready_s = time.monotonic()
        if not self._cache.is_on:
            self._compute(opened, None, payload)
            return
        request = opened.request
        feature_key = await self._cache.feature_key(request, self._served, payload)
        key = self._cache.answer_key(request, self._served, feature_key)
        try:
            if not await self._repeat(opened, key):
                self._compute(opened, key, payload)
        finally:
            # A request that came at a bad time need not send them again, either.
            await self._cache.keep_features(feature_key, Features(request.payload_sizes, payload))
            await self._cache.keep_claim(request, self._served, feature_key)

    def leave(self, opened: OpenRequest, error: CleaveError) -> None:
        """The request has ended with `error` before its answer did."""
        if opened.flight is not None:
            self._flights.leave(opened.flight, opened.tell, error)

    async def _repeat(self, opened: OpenRequest, key: bytes | None) -> bool:
        """Gives the answer that an equal request had, or gets; True, too, where nobody wants it any more."""
        if opened.is_over or key is None:
            return opened.is_over
        if self._join(opened, key):
            return True
        answer = await self._cache.answer(key)
        if answer is None or opened.is_over:
            return opened.is_over
        self._say_have_answer(opened, answer.num_tokens)
        if answer.num_tokens:
            opened.tell(TextDelta(answer.text, 0, answer.num_tokens))
        opened.tell(Finished(answer.reason, answer.prompt_tokens, answer.num_tokens, StepTimes()))
        return True

    def _join(self, opened: OpenRequest, key: bytes | None) -> bool:
        flight = self._flights.find(key)
        if flight is None:
            return False
        self._say_have_answer(opened, flight.num_tokens)
        opened.flight = flight
        self._flights.join(flight, opened.tell)
        return True

    def _compute(self, opened: OpenRequest, key: bytes | None, payload: memoryview) -> None:
        # Looked for again: an equal request may have gone to the engine while the store was asked.
        if not self._join(opened, key):
            opened.flight = self._flights.start(key, opened.request, payload, opened.tell)

    def _say_have_answer(self, opened: OpenRequest, num_tokens: int) -> None:
        opened.cache = pb.CACHE_ANSWER
        self._say(have_answer_message(opened.request.request_id, opened.received_bytes, num_tokens))
