"""The files of a bundle, listed with their sizes and hashes."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

from wire.manifest import FileEntry


def file_entries(folder: Path) -> list[FileEntry]:
    """Every file below the folder, by path."""
    return [_entry(folder, path) for path in sorted(path for path in folder.rglob("*") if path.is_file())]


def _entry(folder: Path, path: Path) -> FileEntry:
    with path.open("rb") as file:
        sha256 = file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path.relative_to(folder).as_posix(), num_bytes=path.stat().st_size, sha256=sha256)
