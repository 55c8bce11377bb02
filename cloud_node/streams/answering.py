"""How an open request gets its answer: from the cache, from an equal request in flight, or from the engine.

Every step that waits for the store looks afterwards whether the request is still open: its deadline may have
ended it, or its edge may have gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cloud_node.asked.held_bytes import HeldBytes
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import TextDelta
from cloud_node.asked.served import Served
from cloud_node.caching.cache import Cache, Features, repeated
from cloud_node.caching.flights import Flights
from cloud_node.caching.held_arms import Held, fits, in_place_of, serving
from cloud_node.streams.messages import have_answer_message, have_features_message
from cloud_node.streams.opened import OpenRequest
from wire.errors import CleaveError
from wire.v1 import inference_pb2 as pb

# Of the arms that serve an input, so many are looked for: the features of one may have been evicted.
_TRIES = 2


class Answering:
    """What a cloud does with a request to one model."""

    def __init__(self, cache: Cache, flights: Flights, served: Served, held: HeldBytes) -> None:
        self._cache = cache
        self._flights = flights
        self._served = served
        self._held = held

    async def without_payloads(self, opened: OpenRequest, *, is_continued: bool = False) -> bool:
        """Answers from what the cloud holds by now; False where the request is open and needs payloads.

        One that is continued has tokens already, so that features of another arm must not stand in for its own.
        Raises Overloaded where there is no memory for them, or no time for the answer: before they are uploaded.
        """
        inputs = opened.request.inputs
        with opened.looking():
            opened.held = await self._cache.held(inputs, self._served, opened.key.tenant)
        choices = [
            serving(held, item, self._served, is_same_arm=is_continued)
            for held, item in zip(opened.held, inputs, strict=True)
        ]
        answer_key: bytes | None = None
        if all(choices):
            first = {index: arms[0] for index, arms in enumerate(choices)}
            if (request := in_place_of(opened.request, first, self._served)) is not None:
                answer_key = self._answer_key(request, [arms[0].feature_key for arms in choices])
            if await self._repeat(opened, answer_key):
                return True
        for turn in range(_TRIES):
            await self._take_features(opened, choices, turn)
        if opened.is_over:
            return True
        self._require_room(opened)
        if opened.missing:
            return False
        found_key = self._answer_key(opened.request, _in_order(opened.feature_keys))
        if found_key == answer_key or not await self._repeat(opened, found_key):
            self._compute(opened, found_key)
        return True

    async def with_payloads(self, opened: OpenRequest) -> None:
        """Answers a request whose payloads are all there, and keeps the features that came; raises Overloaded."""
        opened.ready_s = time.monotonic()
        if not self._cache.is_on:
            self._compute(opened, None)
            return
        inputs, payloads, tenant = opened.request.inputs, dict(opened.payloads), opened.key.tenant
        came = [index for index in payloads if index not in opened.feature_keys]
        with opened.looking():
            for index in came:
                opened.feature_keys[index] = await self._cache.features_key(
                    inputs[index], self._served, payloads[index], tenant
                )
        keys = _in_order(opened.feature_keys)
        try:
            answer_key = self._answer_key(opened.request, keys)
            if not await self._repeat(opened, answer_key):
                self._compute(opened, answer_key)
        finally:
            # A request that came at a bad time need not send them again, either.
            for index in came:
                item, held = inputs[index], opened.held[index]
                features = Features(item.payload_sizes, payloads[index])
                await self._cache.keep_features(keys[index], features)
                await self._cache.keep_held(item, self._served, keys[index], held, tenant)

    def leave(self, opened: OpenRequest, error: CleaveError) -> None:
        """The request has ended with `error` before its answer did."""
        if opened.flight is not None:
            self._flights.leave(opened.flight, opened.tell, error)

    async def _take_features(self, opened: OpenRequest, choices: Sequence[Sequence[Held]], turn: int) -> None:
        """Of each input that has none yet, those of the arm whose turn it is."""
        asked = {
            index: arms[turn]
            for index, arms in enumerate(choices)
            if turn < len(arms) and index not in opened.payloads
        }
        if opened.is_over or not asked:
            return
        with opened.looking():
            found = await self._cache.features([one.feature_key for one in asked.values()])
        for (index, one), features in zip(asked.items(), found, strict=True):
            if features is not None and not opened.is_over:
                self._take(opened, index, one, features)

    def _take(self, opened: OpenRequest, index: int, held: Held, features: Features) -> None:
        request = in_place_of(opened.request, {index: held}, self._served)
        if request is None or not fits(request.inputs[index], features, self._served):
            return
        item = replace(request.inputs[index], payload_sizes=features.payload_sizes)
        opened.take_cached(index, item, held.feature_key, features.payload)
        received = opened.received_bytes[index]
        opened.say(have_features_message(opened.request.request_id, index, received))

    def _answer_key(self, request: Request, feature_keys: Sequence[bytes]) -> bytes | None:
        return self._cache.answer_key(request, self._served, feature_keys)

    async def _repeat(self, opened: OpenRequest, key: bytes | None) -> bool:
        """Gives the answer that an equal request had, or gets; True, too, where nobody wants it any more."""
        if opened.is_over or key is None:
            return opened.is_over
        if self._join(opened, key):
            return True
        with opened.looking():
            answer = await self._cache.answer(key)
        if answer is None or opened.is_over:
            return opened.is_over
        self._say_have_answer(opened, answer.num_tokens)
        if answer.num_tokens:
            opened.tell(TextDelta(answer.text, 0, answer.num_tokens))
        opened.tell(repeated(answer))
        return True

    def _join(self, opened: OpenRequest, key: bytes | None) -> bool:
        flight = self._flights.find(key)
        if flight is None:
            return False
        self._say_have_answer(opened, flight.num_tokens)
        opened.flight = flight
        self._flights.join(flight, opened.tell, opened.deadline_at_s, opened.request.priority)
        return True

    def _compute(self, opened: OpenRequest, key: bytes | None) -> None:
        payloads = opened.take_payloads()
        # Looked for again: an equal request may have gone to the engine while the store was asked.
        if not self._join(opened, key):
            opened.flight = self._flights.start(
                key, opened.request, payloads, opened.tell, opened.deadline_at_s, opened.hold
            )
            opened.hold = None  # the flight's from here on
        opened.let_go()

    def _require_room(self, opened: OpenRequest) -> None:
        # What has come whole is checked when it is submitted, a moment later.
        if opened.awaits_payloads:
            self._flights.check(opened.request)
        opened.hold = self._held.take(
            opened.holder, opened.request.held_bytes, random.random(), opened.key.tenant
        )

    def _say_have_answer(self, opened: OpenRequest, num_tokens: int) -> None:
        opened.cache = pb.CACHE_ANSWER
        received = sum(opened.received_bytes)
        opened.say(have_answer_message(opened.request.request_id, received, num_tokens))


def _in_order(by_index: Mapping[int, bytes]) -> list[bytes]:
    return [by_index[index] for index in range(len(by_index))]
