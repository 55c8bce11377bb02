"""What the cloud keeps between requests: claims, features and answers, each by content (`cache_keys`).

    claim      of which arms the features of an input are kept, by what a client says the input is
    features   the coded features themselves, as they came
    answer     the text that a question about these features got

All of it is believed and found within one tenant only. A value that is damaged, foreign, of another version, or under
another's key is a miss.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Finished, FinishReason, StepTimes
from cloud_node.asked.served import Served
from cloud_node.caching import cache_keys
from cloud_node.caching.cache_keys import Kind, stored_name
from cloud_node.caching.held_arms import Features, Held, held_as, with_held
from cloud_node.caching.leases import Lease, Leases
from cloud_node.caching.sealed import seal, unseal
from cloud_node.caching.store import Store

__all__ = ["Answer", "Cache", "Features", "repeated"]

T = TypeVar("T")

# Hashing more than this would hold the loop, and every stream on it, for over a millisecond.
_LARGE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, whole."""

    text: str
    num_tokens: int
    prompt_tokens: int
    reason: FinishReason


def repeated(answer: Answer, cache_s: float = 0.0) -> Finished:
    """The end of a request that got this answer."""
    times = StepTimes(cache_s=cache_s)
    return Finished(answer.reason, answer.prompt_tokens, answer.num_tokens, times, is_repeated=True)


class Cache:
    """Typed access to a store; without one, nothing is looked up, kept, or waited for.

    With leases, several clouds share the store. `counts` has every look-up, by kind and outcome.
    """

    def __init__(self, store: Store | None, leases: Leases | None = None) -> None:
        self._store = store
        self._leases = leases
        self.counts: Counter[tuple[str, str]] = Counter()

    @property
    def is_on(self) -> bool:
        return self._store is not None

    @property
    def is_shared(self) -> bool:
        """Whether another cloud may be computing what is asked here."""
        return self._leases is not None

    async def features_key(
        self, item: RequestInput, served: Served, payload: memoryview, tenant: str
    ) -> bytes:
        """The content address of a payload that has come."""
        return await _aside(lambda: cache_keys.features_key(item, served, payload, tenant), len(payload))

    def answer_key(self, request: Request, served: Served, feature_keys: Sequence[bytes]) -> bytes | None:
        """The address of the answer; None where none is kept."""
        return cache_keys.answer_key(request, served, feature_keys) if self.is_on else None

    async def held(self, items: Sequence[RequestInput], served: Served, tenant: str) -> list[list[Held]]:
        """Of each input the arms whose features this tenant's clients have sent, newest first."""
        if self._store is None:
            return [[] for _ in items]
        keys = [cache_keys.claim_key(item, served, tenant) if item.input_key else None for item in items]
        claims = await self._get("claim", [key for key in keys if key is not None], list[Held])
        found = (arms or [] for arms in claims)
        return [next(found) if key is not None else [] for key in keys]

    async def keep_held(
        self, item: RequestInput, served: Served, feature_key: bytes, held: Sequence[Held], tenant: str
    ) -> None:
        """Adds an arm to those that were held. Of two who add at the same moment, the later one's stays."""
        if item.input_key:
            arms = with_held(held, held_as(item, feature_key))
            await self._put("claim", cache_keys.claim_key(item, served, tenant), arms)

    async def features(self, feature_keys: Sequence[bytes]) -> list[Features | None]:
        return await self._get("features", feature_keys, Features)

    async def keep_features(self, feature_key: bytes, features: Features) -> None:
        await self._put("features", feature_key, features, len(features.payload))

    async def answer(self, key: bytes) -> Answer | None:
        return (await self._get("answer", [key], Answer))[0]

    async def keep_answer(self, key: bytes, answer: Answer) -> None:
        await self._put("answer", key, answer)

    async def answer_elsewhere(self, key: bytes, most_s: float) -> Answer | Lease | None:
        """The answer, once another cloud has computed it; or the lease to compute it here; or neither, and then
        it is to be computed here as well: the store is in trouble, or the other cloud takes longer than `most_s`.
        """
        if self._leases is None:
            return None
        name = stored_name("answer", key)
        lease_name = stored_name("lease", key)
        found = await self._leases.take_or_follow(
            lease_name, name, lambda value: unseal(name, value, Answer), most_s
        )
        if isinstance(found, Answer):
            self.counts["answer", "hit"] += 1
        return found

    async def give_back(self, lease: Lease) -> None:
        """The answer is kept, or will not come."""
        if self._leases is not None:
            await self._leases.give_back(lease)

    async def close(self) -> None:
        if self._leases is not None:
            await self._leases.close()
        if self._store is not None:
            await self._store.close()

    async def _get(self, kind: Kind, keys: Sequence[bytes], type_: type[T]) -> list[T | None]:
        if self._store is None or not keys:
            return [None] * len(keys)
        names = [stored_name(kind, key) for key in keys]
        values = await self._store.get_many(names)
        found: list[T | None] = []
        for name, value in zip(names, values, strict=True):
            found.append(await _unsealed(name, value, type_) if value is not None else None)
            self.counts[kind, "miss" if found[-1] is None else "hit"] += 1
        return found

    async def _put(self, kind: Kind, key: bytes, body: Any, num_bytes: int = 0) -> None:
        if self._store is not None:
            name = stored_name(kind, key)
            await self._store.put(name, await _aside(lambda: seal(name, body), num_bytes))


async def _unsealed(name: bytes, value: bytes, type_: type[T]) -> T | None:
    return await _aside(lambda: unseal(name, value, type_), len(value))


async def _aside(work: Callable[[], T], num_bytes: int) -> T:
    """The result of work over that many bytes, done in a thread where it would hold the loop."""
    return await asyncio.to_thread(work) if num_bytes > _LARGE_BYTES else work()
