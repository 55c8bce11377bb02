"""Content addresses: SHA-256 over named fields, so that equal keys mean equal content with an equal meaning.

Every field is hashed with its length before it: no two lists of fields run together to the same bytes.
"""

from collections.abc import Sequence
from hashlib import sha256

from wire.modality import Modality


def content_key(purpose: str, *fields: bytes | memoryview) -> bytes:
    """32 bytes for these fields, in this order, for one purpose ("answer")."""
    hasher = sha256()
    for field in (f"cleave {purpose} 1".encode(), *fields):
        hasher.update(memoryview(field).nbytes.to_bytes(8, "little"))
        hasher.update(field)
    return hasher.digest()


def input_key(data: bytes | memoryview, preprocessing_digest: str) -> bytes:
    """32 bytes for the caller's bytes (the file, not its pixels) under one preprocessing."""
    return content_key("input", bytes.fromhex(preprocessing_digest), data)


def feature_key(
    payload: bytes | memoryview,
    *,
    bundle_digest: str,
    modality: Modality,
    shape_id: str,
    split_point: int,
    codec_id: str,
    setting: str,
    payload_sizes: Sequence[int],
) -> bytes:
    """32 bytes for the coded features that were received, and for all that says what they mean."""
    meaning = (bundle_digest, modality, shape_id, str(split_point), codec_id, setting)
    sizes = ",".join(map(str, payload_sizes))
    return content_key("features", *(text.encode() for text in (*meaning, sizes)), payload)
