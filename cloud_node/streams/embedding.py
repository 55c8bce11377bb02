"""What becomes of a request's embeddings: they go back, into an index, or are looked for in one."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
from numpy.typing import NDArray

from cloud_node.asked.embed import Add, Give, Search
from cloud_node.asked.request import Request
from cloud_node.retrieval.vectors import VectorIndexes
from cloud_node.telemetry.log_lines import about
from wire.errors import BadInput, CleaveError, Internal
from wire.v1 import inference_pb2 as pb

_log = logging.getLogger(__name__)


async def use_embeddings(
    request: Request, bundle_digest: str, vectors: NDArray[np.float32], indexes: VectorIndexes | None
) -> pb.Down | CleaveError:
    """The message that ends well, or why there is none; `vectors` are [inputs, dim]."""
    try:
        return await _message(request, bundle_digest, vectors, indexes)
    except CleaveError as error:
        return error
    except Exception as error:  # a disk's failure is its own request's
        _log.error("request failed in an index", exc_info=error, extra=about(request))
        return Internal(f"unforeseen {type(error).__name__} in an index; the cloud's log says more")


async def _message(
    request: Request, bundle_digest: str, vectors: NDArray[np.float32], indexes: VectorIndexes | None
) -> pb.Down:
    """What takes long is done in a thread; raises what the indexes raise."""
    embedded = pb.Embedded(request_id=request.request_id)
    match request.embed:
        case Add(index, item_ids):
            kept = _require(indexes)
            embedded.num_indexed = await asyncio.to_thread(
                kept.add, index, bundle_digest, item_ids, vectors, request.tenant
            )
        case Search(index, num_hits):
            kept = _require(indexes)
            found = await asyncio.to_thread(
                kept.search, index, bundle_digest, vectors[0], num_hits, request.tenant
            )
            embedded.num_indexed = found.num_items
            embedded.hits.extend(pb.Hit(item_id=hit.item_id, similarity=hit.similarity) for hit in found.hits)
        case Give():
            rows = vectors.astype("<f4", copy=False)
            embedded.vectors.extend(pb.Vector(float32=row.tobytes()) for row in rows)
        case None:
            raise AssertionError("the request asks for no embeddings")
    return pb.Down(embedded=embedded)


def _require(indexes: VectorIndexes | None) -> VectorIndexes:
    if indexes is None:
        raise BadInput("this cloud keeps no indexes; start it with --index-dir DIR")
    return indexes
