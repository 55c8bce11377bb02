"""The Open of a request: what is wanted, of which inputs at which arms, under a new id."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from edge_node.encoding import Encoded
from edge_node.models import ServedModel
from edge_node.tracing import Trace
from edge_node.wanted import Wanted, seeded
from wire.v1 import inference_pb2 as pb


def opening_of(served: ServedModel, wanted: Wanted, encoded: Sequence[Encoded], trace: Trace) -> pb.Open:
    """Without its payloads."""
    request_id = secrets.token_hex(8)
    trace.tell(request_id=request_id, model=served.model.name)
    settings = wanted.settings
    if settings is not None:
        settings = seeded(settings, served.model.samples_by_default)
    return pb.Open(
        request_id=request_id,
        model=served.model.name,
        bundle_digest=served.bundle.digest,
        text=wanted.question,
        settings=settings,
        deadline_s=wanted.deadline_s or 0.0,
        inputs=[one.coded.item for one in encoded],
        priority=wanted.priority,
        embed=wanted.embed,
        traceparent=trace.traceparent,
    )


def is_hash_first(wanted: Wanted, encoded: Sequence[Encoded]) -> bool | None:
    """As it is wanted; else for inputs that the device has met before, as the cloud was asked about them, too."""
    if wanted.hash_first is None and all(one.was_known for one in encoded):
        return True
    return wanted.hash_first
