"""What the cloud keeps between requests: claims, features and answers, each by content; the one file that names keys.

    claim      what a client says its input's features are: believed within its tenant only
    features   the coded features themselves, as they came
    answer     the text that a question about these features got

A value that is damaged, of another version, or under another's key is a miss.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from zlib import crc32

import msgspec

from cloud_node.inputs import RequestInput
from cloud_node.request import Request
from cloud_node.sequence import FinishReason
from cloud_node.served import Served
from cloud_node.store import Store
from wire.codecs import split_codec_name
from wire.keys import content_key, feature_key

T = TypeVar("T")
Kind = Literal["claim", "features", "answer"]

# Raised whenever a value or a key gets another meaning: what an older program kept is a miss then.
FORMAT_VERSION = 2
# Hashing more than this would hold the loop, and every stream on it, for over a millisecond.
_LARGE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, whole."""

    text: str
    num_tokens: int
    prompt_tokens: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Features:
    """One input's coded features: the tensors' coded sizes, and all their bytes, read-only."""

    payload_sizes: tuple[int, ...]
    payload: memoryview


@dataclass(frozen=True, slots=True)
class _Claim:
    feature_key: bytes


class _Sealed(msgspec.Struct, array_like=True):
    """A value as it is stored. The checksum is over key and body: a value that was moved is a miss."""

    version: int
    crc32: int
    body: memoryview


class Cache:
    """Typed access to a store; without one, nothing is looked up, kept, or waited for.

    `counts` has every look-up, by kind and outcome.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self.counts: Counter[tuple[str, str]] = Counter()

    @property
    def is_on(self) -> bool:
        return self._store is not None

    async def feature_key(self, item: RequestInput, served: Served, payload: memoryview) -> bytes:
        """The content address of a payload that has come."""
        codec_id, setting = split_codec_name(item.codec)
        return await _aside(
            lambda: feature_key(
                payload,
                bundle_digest=served.bundle_digest,
                modality=item.modality,
                shape_id=item.shape_id,
                split_point=item.split_point,
                codec_id=codec_id,
                setting=setting,
                payload_sizes=item.payload_sizes,
            ),
            len(payload),
        )

    def answer_key(self, request: Request, served: Served, feature_keys: Sequence[bytes]) -> bytes | None:
        """The address of the answer, over all that it depends on; None where asking again may give another.

        Embeddings have none: making them again costs no more than reading them.
        """
        if request.embed is not None:
            return None
        if not self.is_on or not request.settings.is_repeatable(served.samples_by_default):
            return None
        sizes = [f"{item.modality} {item.size} {item.num_tiles}" for item in request.inputs]
        texts = (
            request.tenant.name,
            served.manifest.weights_digest,
            served.bundle_digest,
            served.defaults_digest,
            request.prompt,
            *sizes,
        )
        settings = msgspec.json.encode(request.settings)
        return content_key("answer", settings, *(text.encode() for text in texts), *feature_keys)

    async def claimed(self, item: RequestInput, served: Served, tenant: str = "") -> bytes | None:
        """The feature_key that a client of this tenant claimed for the same input and arm."""
        if not item.input_key or self._store is None:
            return None
        claim = await self._get("claim", _claim_key(item, served, tenant), _Claim)
        return claim.feature_key if claim is not None else None

    async def keep_claim(
        self, item: RequestInput, served: Served, feature_key: bytes, tenant: str = ""
    ) -> None:
        if item.input_key:
            await self._put("claim", _claim_key(item, served, tenant), _Claim(feature_key))

    async def features(self, feature_key: bytes) -> Features | None:
        return await self._get("features", feature_key, Features)

    async def keep_features(self, feature_key: bytes, features: Features) -> None:
        await self._put("features", feature_key, features, len(features.payload))

    async def answer(self, key: bytes) -> Answer | None:
        return await self._get("answer", key, Answer)

    async def keep_answer(self, key: bytes, answer: Answer) -> None:
        await self._put("answer", key, answer)

    async def _get(self, kind: Kind, key: bytes, type_: type[T]) -> T | None:
        if self._store is None:
            return None
        value = await self._store.get(_name(kind, key))
        found = None
        if value is not None:
            found = await _aside(lambda: _unseal(kind, key, value, type_), len(value))
        self.counts[kind, "miss" if found is None else "hit"] += 1
        return found

    async def _put(self, kind: Kind, key: bytes, body: Any, num_bytes: int = 0) -> None:
        if self._store is not None:
            value = await _aside(lambda: _seal(kind, key, body), num_bytes)
            await self._store.put(_name(kind, key), value)


def _claim_key(item: RequestInput, served: Served, tenant: str) -> bytes:
    texts = (
        tenant,
        served.bundle_digest,
        item.modality,
        item.shape_id,
        str(item.split_point),
        item.codec,
        str(item.num_tiles),
    )
    return content_key("claim", *(text.encode() for text in texts), item.input_key)


def _name(kind: Kind, key: bytes) -> bytes:
    return f"cleave:{FORMAT_VERSION}:{kind}:".encode() + key


def _seal(kind: Kind, key: bytes, body: Any) -> bytes:
    data = msgspec.msgpack.encode(body)
    return msgspec.msgpack.encode(_Sealed(FORMAT_VERSION, _checksum(kind, key, data), memoryview(data)))


def _unseal(kind: Kind, key: bytes, value: bytes, type_: type[T]) -> T | None:
    try:
        sealed = msgspec.msgpack.decode(value, type=_Sealed)
        if sealed.version != FORMAT_VERSION or sealed.crc32 != _checksum(kind, key, sealed.body):
            return None
        return msgspec.msgpack.decode(sealed.body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _checksum(kind: Kind, key: bytes, body: bytes | memoryview) -> int:
    return crc32(body, crc32(_name(kind, key)))


async def _aside(work: Callable[[], T], num_bytes: int) -> T:
    """The result of work over that many bytes, done in a thread where it would hold the loop."""
    return await asyncio.to_thread(work) if num_bytes > _LARGE_BYTES else work()
