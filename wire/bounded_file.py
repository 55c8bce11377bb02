"""Files that a person named, read within a bound: certificates, keys, tokens, settings."""

from __future__ import annotations

from pathlib import Path

from wire.errors import BadInput


def read_file(path: Path, what: str, max_bytes: int) -> bytes:
    """Raises BadInput where it cannot be read, or is larger than what it should be ever is."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadInput(f"cannot read {what} {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise BadInput(f"{what} {path} has more than {max_bytes:,} bytes; is it the right file?")
    return data
