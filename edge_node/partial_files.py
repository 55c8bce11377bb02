"""Partial files: what a broken download left, one per file of a bundle, for one writer at a time, and few of them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # no Unix: nothing is resumed there
    fcntl = None  # type: ignore[assignment]

# A store fetches one file at a time; more partial files than these are of bundles that nobody asks for any more.
MAX_PARTIAL_FILES = 4
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class PartialFile:
    """An open file that nobody else writes; `drop` before it is closed, or it stays for the next time."""

    path: Path
    file: BinaryIO
    is_dropped: bool

    def drop(self) -> None:
        """Leaves nothing to go on from."""
        self.is_dropped = True

    def hash_so_far(self, most_bytes: int) -> tuple[int, hashlib._Hash]:
        """How much is there, and its SHA-256 so far; what is longer than the whole file can be is thrown away."""
        hashed, num_bytes = hashlib.sha256(), self.file.seek(0, os.SEEK_END)
        if num_bytes > most_bytes:
            num_bytes = self.file.truncate(0)
        self.file.seek(0)
        while data := self.file.read(_READ_BYTES):
            hashed.update(data)
        return num_bytes, hashed

    def move_to(self, target: Path) -> None:
        """It is whole: gives it its name, under the lock, as the next one to hold it would go on writing there."""
        self.file.flush()
        if fcntl is None:
            self.file.close()  # there an open file cannot be renamed
        self.path.replace(target)


@contextlib.contextmanager
def open_partial(folder: Path, key: str, *, is_resumed: bool) -> Iterator[PartialFile]:
    """The partial file of that key, empty if there is none; a private one if another process writes it now.

    The lock is on the file itself, so that it ends with its process, however that ends. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(key.encode()).hexdigest()
    file = _locked(path) if is_resumed else None
    if file is None:
        handle, name = tempfile.mkstemp(dir=folder, prefix="private-")
        part = PartialFile(Path(name), os.fdopen(handle, "w+b"), is_dropped=True)
        _lock(part.file)
    else:
        part = PartialFile(path, file, is_dropped=False)
    with part.file:
        try:
            _discard_old(folder, part.path.name)
            yield part
        finally:
            # Under the lock: once it is gone, the name may be another's.
            if part.is_dropped:
                part.path.unlink(missing_ok=True)


def surplus(files: Sequence[tuple[str, float]], own: str, most: int = MAX_PARTIAL_FILES) -> list[str]:
    """Which of the (name, time of change) go, the oldest, so that with our own at most `most` stay."""
    others = sorted((file for file in files if file[0] != own), key=lambda file: -file[1])
    return [name for name, _ in others[most - 1 :]]


def _discard_old(folder: Path, own: str) -> None:
    """Removes what is surplus, unless somebody writes it at this moment."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                files.append((entry.name, entry.stat().st_mtime))
    for name in surplus(files, own):
        if (file := _locked(folder / name)) is not None:
            with file:
                (folder / name).unlink(missing_ok=True)


def _locked(path: Path) -> BinaryIO | None:
    """The file, made if need be, locked for us; None where another has it, or where locks do not work."""
    if fcntl is None:
        return None
    file = _opened(path)
    # Whoever had it before us may have renamed or removed it since we opened it.
    if _lock(file) and _is_at(file, path):
        return file
    file.close()
    return None


def _opened(path: Path) -> BinaryIO:
    """Made if need be. Raises OSError for a link, which may lead to any file of the user's, and for a pipe."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path} is no plain file")
    return os.fdopen(descriptor, "a+b")


def _lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
