"""The device's own id, made once and kept beside its bundles: what a cloud resumes by, and a balancer sends by."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from wire.errors import BadInput
from wire.limits import MAX_ID_CHARS

# As gRPC metadata on every call, since a balancer reads no messages.
METADATA_KEY = "cleave-edge-id"
_FILE = "edge_id"
_PATTERN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_CHARS}}}")


def check_edge_id(edge_id: str) -> str:
    """The id itself; raises BadInput unless it is 1 to 64 characters of [A-Za-z0-9_-]."""
    if not _PATTERN.fullmatch(edge_id):
        raise BadInput(
            f"the edge id {edge_id[:MAX_ID_CHARS]!r} is not 1 to {MAX_ID_CHARS} characters of [A-Za-z0-9_-]"
        )
    return edge_id


def kept_edge_id(folder: Path) -> str:
    """The id kept in this folder, made if there is none; one for this process alone where nothing can be kept."""
    path, made = folder / _FILE, secrets.token_hex(16)
    if (kept := _read(path)) is not None:
        return kept
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        # Written aside and then given its name, so that two processes that start at once agree on the first one's.
        aside = folder / f"{_FILE}-{made}"
        try:
            aside.write_text(made)
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    return _read(path) or made


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_ID_CHARS + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _PATTERN.fullmatch(text) else None
