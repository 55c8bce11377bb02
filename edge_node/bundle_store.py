"""Bundles on disk: fetched file by file, gone on with after a break, checked, kept by digest, for all processes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from edge_node.partial_files import PartialFile, open_partial
from wire.errors import BadInput, Corrupt, IncompatibleBundle, MalformedMessage, TooLarge
from wire.limits import MAX_MANIFEST_BYTES
from wire.manifest import FileEntry, Manifest, load_manifest, safe_path
from wire.v1 import inference_pb2 as pb

MANIFEST = "manifest.json"
PARTIAL = "partial"  # a folder beside the bundles, whose names are digests
MAX_FILE_BYTES = 8 << 30

# (bundle digest, path, offset of the first byte) -> parts
Fetch = Callable[[str, str, int], AsyncGenerator[pb.BundlePart, None]]
# The path being fetched; bytes so far, and in all, of every file that is fetched together with it.
Progress = Callable[[str, int, int], None]


def default_folder() -> Path:
    """Where bundles are kept: $CLEAVE_CACHE, else the user's cache folder."""
    return Path(os.environ.get("CLEAVE_CACHE") or platformdirs.user_cache_path("cleave")) / "bundles"


def require_digest(digest: str) -> None:
    """Raises MalformedMessage for what a cloud calls a bundle and is no digest: it would become a path."""
    if len(digest) != 64 or any(char not in "0123456789abcdef" for char in digest):
        raise MalformedMessage(f"the cloud names the bundle {digest[:64]!r}, which is no SHA-256")


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle whose manifest is on disk; its other files come as they are needed."""

    folder: Path
    digest: str
    manifest: Manifest


class BundleStore:
    """A folder of bundles. A file appears under its name only when it is whole and its hash is right.

    What a broken download left is kept beside them, and gone on from; `progress` counts it as done.
    """

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.folder = folder
        self._progress = progress
        self._lock = asyncio.Lock()

    async def open(self, digest: str, fetch: Fetch) -> StoredBundle:
        """The bundle of that digest, its manifest fetched if it is not here yet."""
        require_digest(digest)
        folder = self.folder / digest
        async with self._lock:
            data = _manifest(folder / MANIFEST, digest)
            if data is None:
                # Its size is not known, so that nobody could tell too long a beginning from a right one.
                entry = FileEntry(path=MANIFEST, num_bytes=MAX_MANIFEST_BYTES, sha256=digest)
                await self._fetch(digest, entry, fetch, _Tally(self._progress), is_exact=False)
                data = (folder / MANIFEST).read_bytes()
        return StoredBundle(folder, digest, load_manifest(data))

    async def need(self, bundle: StoredBundle, paths: Sequence[str], fetch: Fetch) -> None:
        """Makes sure that these files of the bundle are here; raises IncompatibleBundle for one it does not list."""
        entries = {entry.path: entry for entry in bundle.manifest.files}
        for path in paths:
            if path not in entries:
                raise IncompatibleBundle(f"the bundle's manifest uses {path} and does not list it")
        async with self._lock:
            wanted = [entries[path] for path in dict.fromkeys(paths)]
            missing = [entry for entry in wanted if not _has(bundle.folder, entry)]
            tally = _Tally(self._progress, sum(entry.num_bytes for entry in missing))
            for entry in missing:
                if not _has(bundle.folder, entry):  # another process may have fetched it meanwhile
                    await self._fetch(bundle.digest, entry, fetch, tally)
                tally.finished_bytes += entry.num_bytes

    async def _fetch(
        self, digest: str, entry: FileEntry, fetch: Fetch, tally: _Tally, *, is_exact: bool = True
    ) -> None:
        if entry.num_bytes > MAX_FILE_BYTES:
            raise TooLarge(
                f"{entry.path} has {entry.num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are fetched"
            )
        target = self.folder / digest / safe_path(entry.path)
        try:
            _require_no_links(self.folder, target.parent, self.folder / PARTIAL)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_partial(self.folder / PARTIAL, f"{digest}/{entry.path}", is_resumed=is_exact) as part:
                try:
                    received = await _receive(part, digest, entry, fetch, tally)
                    if is_exact and received != entry.num_bytes:
                        raise Corrupt(
                            f"{entry.path} came as {received:,} bytes of {entry.num_bytes:,}; ask again"
                        )
                except (Corrupt, MalformedMessage):
                    part.drop()
                    raise
                part.move_to(target)
        except OSError as error:
            raise BadInput(f"cannot keep {target}: {error.strerror}; set CLEAVE_CACHE") from error


@dataclass(slots=True)
class _Tally:
    """Bytes of all files that are fetched together."""

    progress: Progress | None
    total_bytes: int = 0  # 0: that of the one file, which the cloud says
    finished_bytes: int = 0

    def tell(self, path: str, received: int, total_bytes: int) -> None:
        if self.progress is not None:
            self.progress(path, self.finished_bytes + received, self.total_bytes or total_bytes)


async def _receive(part: PartialFile, digest: str, entry: FileEntry, fetch: Fetch, tally: _Tally) -> int:
    """The rest of the file, behind what is there of it; raises Corrupt where the whole has not the right hash."""
    received, hashed = await asyncio.to_thread(part.hash_so_far, entry.num_bytes)
    if received:
        tally.tell(entry.path, received, entry.num_bytes)
    is_begun = (
        False  # an empty part is the only one, of an empty rest: nobody is kept waiting by more of them
    )
    async with aclosing(fetch(digest, entry.path, received)) as pieces:
        async for piece in pieces:
            if is_begun and not piece.data:
                raise MalformedMessage(f"{entry.path} came with an empty part after {received:,} bytes")
            is_begun = True
            if piece.offset != received or received + len(piece.data) > entry.num_bytes:
                raise MalformedMessage(
                    f"{entry.path} came with offset {piece.offset:,} after {received:,} bytes of "
                    f"{entry.num_bytes:,}"
                )
            part.file.write(piece.data)
            hashed.update(piece.data)
            received += len(piece.data)
            tally.tell(entry.path, received, piece.total_bytes)
    if hashed.hexdigest() != entry.sha256:
        raise Corrupt(f"{entry.path} does not have the SHA-256 that the bundle states; ask again")
    return received


def _has(folder: Path, entry: FileEntry) -> bool:
    # Checked when it was stored, and only whole files are: its size tells of a disk that lost its end.
    file = folder / safe_path(entry.path)
    try:
        _require_no_links(folder.parent, file)
    except OSError:
        return False
    return file.is_file() and file.stat().st_size == entry.num_bytes


def _manifest(path: Path, sha256: str) -> bytes | None:
    """Its bytes, if they are there and right."""
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def _require_no_links(base: Path, *paths: Path) -> None:
    """Raises OSError where a path leads through a symbolic link below the base: what others planted there."""
    for path in paths:
        for part in (path, *path.parents):
            if part == base:
                break
            if part.is_symlink():
                raise OSError(errno.ELOOP, f"{part} is a symbolic link")
