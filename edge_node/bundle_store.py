"""Bundles on disk: fetched from the cloud file by file, hash-checked, kept by digest, shared between processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from wire.errors import BadInput, Corrupt, IncompatibleBundle, MalformedMessage, TooLarge
from wire.limits import MAX_MANIFEST_BYTES
from wire.manifest import FileEntry, Manifest, load_manifest, safe_path
from wire.v1 import inference_pb2 as pb

MANIFEST = "manifest.json"
MAX_FILE_BYTES = 8 << 30

Fetch = Callable[[str, str], AsyncGenerator[pb.BundlePart, None]]  # (bundle digest, path) -> parts
Progress = Callable[[str, int, int], None]  # path, bytes so far, bytes in all


def default_folder() -> Path:
    """Where bundles are kept: $CLEAVE_CACHE, else the user's cache folder."""
    return Path(os.environ.get("CLEAVE_CACHE") or platformdirs.user_cache_path("cleave")) / "bundles"


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle whose manifest is on disk; its other files come as they are needed."""

    folder: Path
    digest: str
    manifest: Manifest


class BundleStore:
    """A folder of bundles. A file appears under its name only when it is whole and its hash is right."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self._folder = folder
        self._progress = progress
        self._lock = asyncio.Lock()

    async def open(self, digest: str, fetch: Fetch) -> StoredBundle:
        """The bundle of that digest, its manifest fetched if it is not here yet."""
        if len(digest) != 64 or any(char not in "0123456789abcdef" for char in digest):
            raise MalformedMessage(f"the cloud names the bundle {digest[:64]!r}, which is no SHA-256")
        folder = self._folder / digest
        async with self._lock:
            if not _is_whole(folder / MANIFEST, digest):
                entry = FileEntry(path=MANIFEST, num_bytes=MAX_MANIFEST_BYTES, sha256=digest)
                await self._fetch(folder, digest, entry, fetch, is_exact=False)
        return StoredBundle(folder, digest, load_manifest(folder / MANIFEST))

    async def need(self, bundle: StoredBundle, paths: Sequence[str], fetch: Fetch) -> None:
        """Makes sure that these files of the bundle are here; raises IncompatibleBundle for one it does not list."""
        entries = {entry.path: entry for entry in bundle.manifest.files}
        async with self._lock:
            for path in paths:
                if path not in entries:
                    raise IncompatibleBundle(f"the bundle's manifest uses {path} and does not list it")
                if not self._has(bundle.folder, entries[path]):
                    await self._fetch(bundle.folder, bundle.digest, entries[path], fetch)

    @staticmethod
    def _has(folder: Path, entry: FileEntry) -> bool:
        # Checked when it was stored, and only whole files are: its size tells of a disk that lost its end.
        file = folder / safe_path(entry.path)
        return file.is_file() and file.stat().st_size == entry.num_bytes

    async def _fetch(
        self, folder: Path, digest: str, entry: FileEntry, fetch: Fetch, *, is_exact: bool = True
    ) -> None:
        if entry.num_bytes > MAX_FILE_BYTES:
            raise TooLarge(
                f"{entry.path} has {entry.num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are fetched"
            )
        target = folder / safe_path(entry.path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".fetching-")
        except OSError as error:
            raise BadInput(
                f"cannot keep bundles in {self._folder}: {error.strerror}; set CLEAVE_CACHE"
            ) from error
        part_file = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                received = await self._receive(file.write, digest, entry, fetch)
            if is_exact and received != entry.num_bytes:
                raise Corrupt(f"{entry.path} came as {received:,} bytes of {entry.num_bytes:,}; ask again")
            part_file.replace(target)
        except OSError as error:
            raise BadInput(f"cannot write {target}: {error.strerror}; set CLEAVE_CACHE") from error
        finally:
            part_file.unlink(missing_ok=True)

    async def _receive(
        self, write: Callable[[bytes], object], digest: str, entry: FileEntry, fetch: Fetch
    ) -> int:
        received, hashed = 0, hashlib.sha256()
        async with aclosing(fetch(digest, entry.path)) as parts:
            async for part in parts:
                if part.offset != received or received + len(part.data) > entry.num_bytes:
                    raise MalformedMessage(
                        f"{entry.path} came with offset {part.offset:,} after {received:,} bytes of "
                        f"{entry.num_bytes:,}"
                    )
                write(part.data)
                hashed.update(part.data)
                received += len(part.data)
                if self._progress is not None:
                    self._progress(entry.path, received, part.total_bytes)
        if hashed.hexdigest() != entry.sha256:
            raise Corrupt(f"{entry.path} does not have the SHA-256 that the bundle states; ask again")
        return received


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
