"""Indexes of vectors on disk: rows that are the truth (`item_store`), and a graph over them that finds neighbours.

The graph is `usearch`'s HNSW (Malkov and Yashunin, arXiv:1603.09320). It is saved beside the rows from time to time and
at the end; what it lacks then, or has too much, is made up for when it is loaded; one that is damaged is made anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from cloud_node.asked.tenants import ANYBODY, Tenant
from cloud_node.retrieval.item_store import ItemStore
from cloud_node.retrieval.vectors import Found, Hit
from wire.errors import BadInput, CleaveError, IncompatibleBundle, LimitReached, TooLarge

_log = logging.getLogger(__name__)

MAX_INDEXES = 256  # each holds some files open
MAX_INDEXES_OF_TENANT = 32
MAX_ITEMS = 1_000_000  # of all indexes together
MAX_DIM = 16_384  # 64 KiB a vector, which is what one message of the wire holds
# Up to here every item is compared: 100,000 of 128 numbers take some 10 ms, and none is missed.
_EXACT_UP_TO = 100_000
# Beyond, the graph is asked. Of random vectors, the hardest to tell apart, the library's own settings (16, 128, 64)
# find half of the nearest 10 among 20,000; these find 99 in 100, at 1.4 times the cost of adding one.
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 32, 128, 512
# A graph is saved once this many of its items, and this share of them, are new.
_SAVE_AFTER, _SAVE_SHARE = 1_000, 0.1
_DIGEST_CHARS = 16
# The tenant's name and @, unless nobody is asked who they are, and the index's.
_NAMES = r"(?:[a-z0-9_-]{1,64}@)?[A-Za-z0-9_-]{1,64}"


class DiskIndexes:
    """Those of the bundles that are served; others stay in the folder, untouched. Any thread may call anything."""

    def __init__(self, folder: Path, bundle_digests: Iterable[str], max_items: int = MAX_ITEMS) -> None:
        """Loads what is there. Raises BadInput where the folder cannot be used, Corrupt where an index is damaged."""
        self._folder = folder
        self._max_items = max_items
        self._open: dict[str, _OpenIndex] = {}
        self._coming: Counter[str] = Counter()  # items that are being added now, by tenant
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = sorted(path.name for path in folder.glob("*.items"))
        except OSError as error:
            raise BadInput(
                f"cannot use {folder} for indexes: {error.strerror}; give another folder"
            ) from error
        for digest in dict.fromkeys(bundle_digests):
            for name in names:
                if re.fullmatch(rf"{_NAMES}\.{digest[:_DIGEST_CHARS]}\.items", name):
                    self._open[name] = _OpenIndex(folder / name, digest)

    def add(
        self,
        index: str,
        bundle_digest: str,
        item_ids: Sequence[str],
        vectors: NDArray[np.float32],
        tenant: Tenant = ANYBODY,
    ) -> int:
        if vectors.shape[1] > MAX_DIM:
            raise TooLarge(
                f"a vector has {vectors.shape[1]:,} numbers, and an index takes at most {MAX_DIM:,}"
            )
        name = _file_name(index, bundle_digest, tenant)
        with self._lock:
            there = self._open.get(name)
            more = len(set(item_ids)) if there is None else there.num_new(item_ids)
            self._require_room(tenant, more)
            if there is None:
                self._require_index(tenant)
                there = self._open[name] = _OpenIndex(self._folder / name, bundle_digest)
            self._coming[tenant.name] += more
        try:
            return there.add(item_ids, vectors)
        finally:
            with self._lock:
                self._coming[tenant.name] -= more
                if not self._coming[tenant.name]:
                    del self._coming[tenant.name]

    def search(
        self,
        index: str,
        bundle_digest: str,
        vector: NDArray[np.float32],
        num_hits: int,
        tenant: Tenant = ANYBODY,
    ) -> Found:
        with self._lock:
            found = self._open.get(_file_name(index, bundle_digest, tenant))
        if found is None:
            raise BadInput(f"this model has no index {index!r} here; add something to it first")
        return found.search(vector, num_hits)

    def _require_room(self, tenant: Tenant, more: int) -> None:
        """What this tenant may keep, and what all may together; neither tells what the others keep.

        What only replaces items always has room.
        """
        if not more:
            return
        own, most = self._num_items_of(tenant), tenant.limits.index_items
        if most and own + more > most:
            raise LimitReached(
                f"tenant {tenant.name} keeps {own:,} items in its indexes, and may keep {most:,}; ask for more room"
            )
        if sum(map(len, self._open.values())) + self._coming.total() + more > self._max_items:
            raise TooLarge(
                f"this cloud has no room for {more:,} more items; remove some, or ask its operator for room"
            )

    def _require_index(self, tenant: Tenant) -> None:
        own = sum(_tenant_of(name) == tenant.name for name in self._open)
        if tenant.name and own >= MAX_INDEXES_OF_TENANT:
            raise LimitReached(
                f"tenant {tenant.name} has {own} indexes, and may have {MAX_INDEXES_OF_TENANT}; add to one of these"
            )
        if len(self._open) >= MAX_INDEXES:
            raise TooLarge(
                "this cloud has no room for another index; add to one that is there, or ask its operator"
            )

    def _num_items_of(self, tenant: Tenant) -> int:
        kept = sum(len(one) for name, one in self._open.items() if _tenant_of(name) == tenant.name)
        return kept + self._coming[tenant.name]

    def close(self) -> None:
        """Saves what is not saved."""
        with self._lock:
            for one in self._open.values():
                one.close()
            self._open.clear()


class _OpenIndex:
    """One index: its rows, its graph, and which item a number of the graph is."""

    def __init__(self, path: Path, bundle_digest: str) -> None:
        self._graph_path = path.with_suffix(".graph")
        self._lock = threading.Lock()
        self._store = ItemStore(path)
        if (told := self._store.fact("bundle_digest")) not in ("", bundle_digest):
            raise IncompatibleBundle(
                f"the index {path} is of bundle {told[:12]}, not {bundle_digest[:12]}; remove it"
            )
        self._store.set_fact("bundle_digest", bundle_digest)
        self._item_ids = self._store.item_ids()
        self._known = set(self._item_ids.values())
        self._dim = int(self._store.fact("dim") or 0)
        self._num_unsaved = 0
        self._graph: Index | None = self._loaded() if self._dim else None

    def __len__(self) -> int:
        return len(self._item_ids)

    def num_new(self, item_ids: Iterable[str]) -> int:
        """How many of them are not here. Waits for no other call: what is being added counts as new."""
        return sum(item_id not in self._known for item_id in set(item_ids))

    def add(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        with self._lock:
            if self._graph is None:
                self._dim = vectors.shape[1]
                self._store.set_fact("dim", str(self._dim))
                self._graph = _new_graph(self._dim)
            if vectors.shape[1] != self._dim:
                raise BadInput(
                    f"the index is of vectors of {self._dim} numbers, and these have {vectors.shape[1]}"
                )
            added, replaced = self._store.put(item_ids, vectors)
            for number in replaced:
                self._graph.remove(number)
                del self._item_ids[number]
            self._graph.add(np.array(added, np.uint64), vectors)
            self._item_ids.update(zip(added, item_ids, strict=True))
            self._known.update(item_ids)
            self._num_unsaved += len(added)
            if self._num_unsaved >= max(_SAVE_AFTER, _SAVE_SHARE * len(self)):
                self._save()
            return len(self)

    def search(self, vector: NDArray[np.float32], num_hits: int) -> Found:
        with self._lock:
            if self._graph is None or not self._item_ids:
                return Found((), 0)
            matches = self._graph.search(
                vector, min(num_hits, len(self)), exact=len(self) <= _EXACT_UP_TO, threads=1
            )
            hits = [
                Hit(self._item_ids[int(number)], 1.0 - float(distance))
                for number, distance in zip(matches.keys, matches.distances, strict=True)
            ]
            return Found(tuple(sorted(hits, key=lambda hit: (-hit.similarity, hit.item_id))), len(self))

    def close(self) -> None:
        with self._lock:
            if self._num_unsaved:
                self._save()
            self._store.close()

    def _loaded(self) -> Index:
        """The saved graph, brought up to date with the rows."""
        graph = self._saved() or _new_graph(self._dim)
        # At once: one after the other, each would be looked for from the beginning.
        numbers = set(graph.keys[:].tolist())
        for number in numbers - self._item_ids.keys():
            graph.remove(number)
        missing = self._item_ids.keys() - numbers
        for some, vectors in self._store.vectors(missing, self._dim):
            graph.add(np.array(some, np.uint64), vectors)
        self._num_unsaved = len(missing)
        return graph

    def _saved(self) -> Index | None:
        """None where there is none, or another than was saved: what is read in must be what was written."""
        try:
            data = self._graph_path.read_bytes()
        except FileNotFoundError:
            return None
        if sha256(data).hexdigest() != self._store.fact("graph_sha256"):
            _log.warning("%s is not what was saved there, and is made anew", self._graph_path)
            return None
        return Index.restore(data)

    def _save(self) -> None:
        """The graph and its digest, which is what makes it valid; a failure costs time at the next start, no item."""
        assert self._graph is not None
        data = bytes(self._graph.save())
        temporary = self._graph_path.with_suffix(".part")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, self._graph_path)
            self._store.set_fact("graph_sha256", sha256(data).hexdigest())
        except (OSError, CleaveError) as error:
            _log.warning("%s was not saved: %s", self._graph_path, error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        self._num_unsaved = 0


def _new_graph(dim: int) -> Index:
    return Index(
        ndim=dim,
        metric="ip",
        dtype="f32",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )


def _file_name(index: str, bundle_digest: str, tenant: Tenant) -> str:
    owner = f"{tenant.name}@" if tenant.name else ""
    return f"{owner}{index}.{bundle_digest[:_DIGEST_CHARS]}.items"


def _tenant_of(file_name: str) -> str:
    return file_name.rpartition("@")[0]
