"""Every key of the cache, in one place: whose it is, what it stands for, and which version wrote it. Pure.

    cleave:3:claim:    32 bytes over tenant, bundle, modality, size and input_key: the arms whose features are kept
    cleave:3:features: 32 bytes over tenant and the features' content: the coded features of one input
    cleave:3:answer:   32 bytes over tenant and all that an answer depends on: the answer
    cleave:3:lease:    the answer's key: which cloud computes it just now

The tenant is in every one: nothing that one sends or asks can be found, changed or probed for by another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.served import Served
from wire.codecs import split_codec_name
from wire.keys import content_key, feature_key

Kind = Literal["claim", "features", "answer"]

# Raised whenever a value or a key gets another meaning: what an older program kept is a miss then.
FORMAT_VERSION = 3


def stored_name(kind: Kind | Literal["lease"], key: bytes) -> bytes:
    """What a store knows it by."""
    return f"cleave:{FORMAT_VERSION}:{kind}:".encode() + key


def claim_key(item: RequestInput, served: Served, tenant: str) -> bytes:
    """Of what a client of this tenant said about an input of this size, whatever arm it was coded for."""
    texts = (tenant, served.bundle_digest, item.modality, str(item.size))
    return content_key("claim", *(text.encode() for text in texts), item.input_key)


def features_key(item: RequestInput, served: Served, payload: memoryview, tenant: str) -> bytes:
    """The content address of a payload, for this tenant."""
    codec_id, setting = split_codec_name(item.codec)
    content = feature_key(
        payload,
        bundle_digest=served.bundle_digest,
        modality=item.modality,
        shape_id=item.shape_id,
        split_point=item.split_point,
        codec_id=codec_id,
        setting=setting,
        payload_sizes=item.payload_sizes,
    )
    return content_key("features", tenant.encode(), content)


def answer_key(request: Request, served: Served, feature_keys: Sequence[bytes]) -> bytes | None:
    """The address of the answer, over all that it depends on; None where asking again may give another.

    Embeddings have none: making them again costs no more than reading them.
    """
    if request.embed is not None or not request.settings.is_repeatable(served.samples_by_default):
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
