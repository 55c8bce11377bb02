"""The items of one index on disk, a row each: the truth from which its graph is made again. SQLite does the work.

A row's number is never given twice, so that a graph of an earlier state is brought up to date by the numbers alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from wire.errors import BadInput, Corrupt, IncompatibleBundle

FORMAT_VERSION = 1
_ROWS_AT_ONCE = 4096

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL UNIQUE, vector BLOB NOT NULL, crc32 INTEGER NOT NULL
);
"""


class ItemStore:
    """Used by one thread at a time. Every change is whole on disk when its call returns, or did not take place."""

    def __init__(self, path: Path) -> None:
        """Opens, or makes, the file, for this process alone.

        Raises Corrupt where it is damaged, IncompatibleBundle where it is newer, BadInput where it cannot be opened.
        """
        self.path = path
        try:
            self._open()
        except sqlite3.OperationalError as error:
            raise BadInput(
                f"cannot use the index {path} ({error}); does another cloud keep its indexes there? Give each its own "
                "folder"
            ) from error
        if (version := self.fact("format_version")) != str(FORMAT_VERSION):
            raise IncompatibleBundle(
                f"the index {path.name} has format version {version}, and this program reads {FORMAT_VERSION}; update "
                "it, or give another folder"
            )

    def _open(self) -> None:
        with self._errors():
            self._rows = sqlite3.connect(
                self.path, timeout=0.5, check_same_thread=False, isolation_level=None
            )
            self._rows.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._rows.execute("PRAGMA journal_mode = WAL")
            if self._rows.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its pages do not fit together")
            if not self._rows.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._rows.executescript(f"BEGIN; {_TABLES} COMMIT;")
                self.set_fact("format_version", str(FORMAT_VERSION))

    def __len__(self) -> int:
        with self._errors():
            return int(self._rows.execute("SELECT count(*) FROM items").fetchone()[0])

    def fact(self, name: str) -> str:
        """What was said of the index under that name; "" for nothing."""
        with self._errors():
            row = self._rows.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        with self._errors():
            self._rows.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> tuple[list[int], list[int]]:
        """The numbers of the new rows, and those of the rows that they replace. All are kept, or none."""
        added, replaced = [], []
        with self._errors(), self._transaction():
            for item_id, vector in zip(item_ids, vectors, strict=True):
                data = vector.astype("<f4").tobytes()
                gone = self._rows.execute(
                    "DELETE FROM items WHERE item_id = ? RETURNING number", (item_id,)
                ).fetchall()
                replaced += [number for (number,) in gone]
                made = self._rows.execute(
                    "INSERT INTO items (item_id, vector, crc32) VALUES (?, ?, ?)",
                    (item_id, data, _checksum(item_id, data)),
                )
                assert made.lastrowid is not None
                added.append(made.lastrowid)
        return added, replaced

    def item_ids(self) -> dict[int, str]:
        """Of every row, by its number."""
        with self._errors():
            return dict(self._rows.execute("SELECT number, item_id FROM items"))

    def vectors(self, numbers: Iterable[int], dim: int) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """The vectors of those rows, [rows, dim], some thousands at a time; raises Corrupt for one that is damaged."""
        wanted = set(numbers)
        with self._errors():
            rows = self._rows.execute("SELECT number, item_id, vector, crc32 FROM items ORDER BY number")
            while batch := rows.fetchmany(_ROWS_AT_ONCE):
                found = [row for row in batch if row[0] in wanted]
                for number, item_id, data, checksum in found:
                    if len(data) != 4 * dim or _checksum(item_id, data) != checksum:
                        raise sqlite3.DatabaseError(f"the vector of row {number} is damaged")
                if found:
                    joined = np.frombuffer(b"".join(row[2] for row in found), "<f4")
                    yield [row[0] for row in found], joined.reshape(len(found), dim)

    def close(self) -> None:
        with self._errors():
            self._rows.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._rows.execute("ROLLBACK")
            raise
        self._rows.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError:
            raise  # the disk's or the folder's fault, which the log has
        except sqlite3.DatabaseError as error:
            raise Corrupt(
                f"the index {self.path} is damaged ({error}); put a copy in its place, or remove it and add its items "
                "again"
            ) from error


def _checksum(item_id: str, data: bytes) -> int:
    return crc32(data, crc32(item_id.encode()))
