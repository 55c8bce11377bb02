"""The files of a bundle: which paths are allowed, and whether the files are those that the manifest lists."""

import os
import re
from collections.abc import Sequence
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from wire.errors import Corrupt, IncompatibleBundle, MalformedMessage

MAX_PATH_CHARS = 255
MAX_PATH_DEPTH = 4

# Absent flags are those that the operating system does not have.
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))

_ALLOWED = re.compile(r"[A-Za-z0-9._/-]+")
# Windows opens a device for these, whatever follows the first dot, and drops the dots at a name's end.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle."""

    path: str
    num_bytes: Annotated[int, Meta(ge=0, le=2**62)]
    sha256: Sha256

    def __post_init__(self) -> None:
        safe_path(self.path)


class HasFiles(Protocol):
    """A manifest, as far as its files go."""

    @property
    def files(self) -> Sequence[FileEntry]:
        """Every file but manifest.json itself."""


def safe_path(path: str) -> PurePosixPath:
    """A path that stays inside the bundle's folder, on any system; raises MalformedMessage for any other.

    Relative, of [A-Za-z0-9._/-], at most 255 characters and 4 parts, none of them empty, ending in a dot, or a device.
    """
    parts = path.split("/")
    is_safe = (
        len(path) <= MAX_PATH_CHARS
        and _ALLOWED.fullmatch(path) is not None
        and len(parts) <= MAX_PATH_DEPTH
        and not any(not part or part.endswith(".") or _DEVICE.fullmatch(part) for part in parts)
    )
    if not is_safe:
        raise MalformedMessage(
            f"bundle path {path[:MAX_PATH_CHARS]!r} is not allowed; expected a relative path of at most "
            f"{MAX_PATH_DEPTH} parts of [A-Za-z0-9._-], without '..', a dot at the end, or a device's name"
        )
    return PurePosixPath(path)


def check_distinct(paths: Sequence[str]) -> None:
    """Raises MalformedMessage where one path is another's, or its folder, on a disk that tells no case apart."""
    seen = {path.casefold(): path for path in paths}
    if len(seen) < len(paths):
        twice = next(path for path in paths if seen[path.casefold()] is not path)
        raise MalformedMessage(f"the manifest lists file {twice!r} twice, or in another case")
    for path in paths:
        for folder in PurePosixPath(path.casefold()).parents:
            if str(folder) in seen:
                raise MalformedMessage(f"the manifest lists {seen[str(folder)]!r} as a file and as a folder")


def open_plain(folder: Path, path: str) -> BufferedReader:
    """A plain file of a bundle, reached through no symbolic link below its folder.

    Raises IncompatibleBundle, or MalformedMessage for a path that is not allowed.
    """
    file = folder
    for part in safe_path(path).parts:
        file = file / part
        if file.is_symlink():
            raise IncompatibleBundle(f"bundle file {path} is, or lies behind, a symbolic link; copy it")
    return _open(file, path)


def check_files(folder: Path, manifest: HasFiles) -> None:
    """Each listed file exists, is a plain file (no symbolic link on the way), and has its size and SHA-256.

    Files that are not listed are not looked at. Raises IncompatibleBundle (missing, a link), Corrupt (size or
    SHA-256), or MalformedMessage (path).
    """
    for entry in manifest.files:
        _check_file(folder, entry)


def _check_file(folder: Path, entry: FileEntry) -> None:
    with open_plain(folder, entry.path) as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes != entry.num_bytes:
            raise Corrupt(
                f"bundle file {entry.path} has {num_bytes} bytes; expected {entry.num_bytes}; fetch it again"
            )
        if file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise Corrupt(f"bundle file {entry.path} does not have its SHA-256; fetch it again")


def _open(path: Path, name: str) -> BufferedReader:
    """A plain file, opened without following a link or waiting for a pipe's other end."""
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
        if not S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise IncompatibleBundle(f"bundle file {name} is not a plain file; fetch it again")
    except OSError as error:
        raise IncompatibleBundle(
            f"bundle file {name} cannot be read: {error.strerror}; fetch it again"
        ) from error
    return os.fdopen(descriptor, "rb")
