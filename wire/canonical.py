"""One digest per value: SHA-256 of a struct's canonical JSON (sorted keys, no spaces, shortest numbers)."""

from hashlib import sha256

import msgspec
from msgspec import Struct


def struct_digest(value: Struct) -> str:
    """64 hex digits. Raises msgspec.ValidationError for a value that could not be read back."""
    # Decoding turns an int that stands for a float into a float, so that 1 and 1.0 have one digest.
    canonical = msgspec.json.decode(msgspec.json.encode(value), type=type(value))
    return sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()
