"""What comes back of a request for embeddings: vectors, hits, and how many an index holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedMessage
from wire.v1 import inference_pb2 as pb

MAX_VECTOR_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Hit:
    """One item of an index, near to what was searched for."""

    item_id: str
    similarity: float  # cosine, -1 to 1


async def embedded_of(downs: AsyncGenerator[pb.Down, None], address: str) -> pb.Embedded:
    """The one message that such a request is about; raises MalformedMessage where the cloud sends none."""
    embedded: pb.Embedded | None = None
    async for down in downs:
        if down.WhichOneof("message") == "embedded":
            embedded = down.embedded
    if embedded is None:
        raise MalformedMessage(f"{address} was asked for embeddings and sent none; is it of another version?")
    return embedded


def vector_of(embedded: pb.Embedded) -> NDArray[np.float32]:
    """The first vector, [dim], of length 1; raises MalformedMessage for one that is none."""
    data = embedded.vectors[0].float32 if embedded.vectors else b""
    if not data or len(data) % 4 or len(data) > MAX_VECTOR_BYTES:
        raise MalformedMessage(
            f"the cloud sent a vector of {len(data):,} bytes; expected 4 for each number, at most {MAX_VECTOR_BYTES:,}"
        )
    return np.frombuffer(data, "<f4").astype(np.float32)


def hits_of(embedded: pb.Embedded) -> list[Hit]:
    """The nearest first."""
    return [Hit(hit.item_id, hit.similarity) for hit in embedded.hits]
