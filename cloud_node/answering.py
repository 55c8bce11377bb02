"""How an open request gets its answer: from the cache, from an equal request in flight, or from the engine.

Every step that waits for the store looks afterwards whether the request is still open: its deadline may have
ended it, or its edge may have gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from cloud_node.cache import Cache, Features
from cloud_node.flights import Flights
from cloud_node.held_bytes import HeldBytes
from cloud_node.messages import have_answer_message, have_features_message
from cloud_node.opened import OpenRequest
from cloud_node.sequence import Finished, StepTimes, TextDelta
from cloud_node.served import Served
from wire.errors import CleaveError
from wire.v1 import inference_pb2 as pb


class Answering:
    """What a cloud does with a request to one model."""

    def __init__(self, cache: Cache, flights: Flights, served: Served, held: HeldBytes) -> None:
        self._cache = cache
        self._flights = flights
        self._served = served
        self._held = held

    async def without_payloads(self, opened: OpenRequest) -> bool:
        """Answers from what the cloud holds by now; False where the request is open and needs payloads.

        Raises Overloaded where there is no memory for them, or no time for the answer: before they are uploaded.
        """
        inputs = opened.request.inputs
        claimed: dict[int, bytes] = {}
        for index, item in enumerate(inputs):
            key = await self._cache.claimed(item, self._served, opened.request.tenant.name)
            if key is not None:
                claimed[index] = key
        answer_key: bytes | None = None
        if len(claimed) == len(inputs):
            answer_key = self._answer_key(opened, [claimed[index] for index in range(len(inputs))])
            if await self._repeat(opened, answer_key):
                return True
        for index, key in claimed.items():
            features = await self._cache.features(key)
            if features is not None and not opened.is_over:
                opened.take_cached(index, key, features)
                received = opened.received_bytes[index]
                opened.say(have_features_message(opened.request.request_id, index, received))
        if opened.is_over:
            return True
        self._require_room(opened)
        if opened.missing:
            return False
        self._compute(opened, answer_key)
        return True

    async def with_payloads(self, opened: OpenRequest) -> None:
        """Answers a request whose payloads are all there, and keeps the features that came; raises Overloaded."""
        opened.ready_s = time.monotonic()
        if not self._cache.is_on:
            self._compute(opened, None)
            return
        inputs, payloads = opened.request.inputs, dict(opened.payloads)
        came = [index for index in payloads if index not in opened.feature_keys]
        for index in came:
            key = await self._cache.feature_key(inputs[index], self._served, payloads[index])
            opened.feature_keys[index] = key
        keys = [opened.feature_keys[index] for index in range(len(inputs))]
        try:
            answer_key = self._answer_key(opened, keys)
            if not await self._repeat(opened, answer_key):
                self._compute(opened, answer_key)
        finally:
            # A request that came at a bad time need not send them again, either.
            for index in came:
                features = Features(inputs[index].payload_sizes, payloads[index])
                await self._cache.keep_features(keys[index], features)
                await self._cache.keep_claim(
                    inputs[index], self._served, keys[index], opened.request.tenant.name
                )

    def leave(self, opened: OpenRequest, error: CleaveError) -> None:
        """The request has ended with `error` before its answer did."""
        if opened.flight is not None:
            self._flights.leave(opened.flight, opened.tell, error)

    def _answer_key(self, opened: OpenRequest, feature_keys: Sequence[bytes]) -> bytes | None:
        return self._cache.answer_key(opened.request, self._served, feature_keys)

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
        self._flights.join(flight, opened.tell, opened.deadline_at_s)
        return True

    def _compute(self, opened: OpenRequest, key: bytes | None) -> None:
        payloads = opened.take_payloads()
        # Looked for again: an equal request may have gone to the engine while the store was asked.
        if not self._join(opened, key):
            flight = self._flights.start(key, opened.request, payloads, opened.tell, opened.deadline_at_s)
            opened.flight = flight
            if flight.sequence is not None:
                flight.sequence.hold, opened.hold = opened.hold, None
        opened.let_go()

    def _require_room(self, opened: OpenRequest) -> None:
        self._flights.check(opened.request)
        opened.hold = self._held.take(opened.holder, opened.request.held_bytes, random.random())

    def _say_have_answer(self, opened: OpenRequest, num_tokens: int) -> None:
        opened.cache = pb.CACHE_ANSWER
        received = sum(opened.received_bytes)
        opened.say(have_answer_message(opened.request.request_id, received, num_tokens))
