"""Indexes of vectors: what was added is found, after a restart, too; what is damaged is said or made anew."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_node.asked.tenants import Tenant, TenantLimits
from cloud_node.retrieval import indexes as indexes_module
from cloud_node.retrieval.indexes import DiskIndexes
from wire.errors import BadInput, Corrupt, IncompatibleBundle, LimitReached, TooLarge

DIGEST, OTHER = "ab" * 32, "cd" * 32


def vectors(count: int, dim: int = 16, seed: int = 0) -> NDArray[np.float32]:
    """[count, dim], each of length 1."""
    made = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def names(count: int, start: int = 0) -> list[str]:
    return [f"item {index}" for index in range(start, start + count)]


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[DiskIndexes]:
    made = DiskIndexes(tmp_path, [DIGEST, OTHER])
    yield made
    made.close()


def nearest(made: DiskIndexes, vector: NDArray[np.float32], num_hits: int = 3, **where: Any) -> list[str]:
    found = made.search(where.get("index", "photos"), where.get("digest", DIGEST), vector, num_hits)
    return [hit.item_id for hit in found.hits]


def test_hits_are_the_nearest_in_order_with_their_cosine(indexes: DiskIndexes) -> None:
    kept = vectors(50)
    assert indexes.add("photos", DIGEST, names(50), kept) == 50
    query = vectors(1, seed=9)[0]
    found = indexes.search("photos", DIGEST, query, 7)
    cosines = kept @ query
    best = np.argsort(-cosines)[:7]
    assert [hit.item_id for hit in found.hits] == [f"item {index}" for index in best]
    np.testing.assert_allclose([hit.similarity for hit in found.hits], cosines[best], atol=1e-6)
    assert found.num_items == 50


def test_more_hits_than_items_are_all_items(indexes: DiskIndexes) -> None:
    indexes.add("photos", DIGEST, names(3), vectors(3))
    assert len(nearest(indexes, vectors(1)[0], 1000)) == 3


def test_indexes_of_a_cloud_that_asks_nobody_stay_when_it_begins_to_ask(
    indexes: DiskIndexes, tmp_path: Path
) -> None:
    kept = vectors(2)
    indexes.add("photos", DIGEST, ["before"], kept[:1])
    assert (tmp_path / f"photos.{DIGEST[:16]}.items").is_file()
    with pytest.raises(BadInput, match="no index 'photos'"):
        indexes.search("photos", DIGEST, kept[0], 3, Tenant("acme"))
    indexes.add("photos", DIGEST, ["acme's"], kept[1:], Tenant("acme"))
    assert nearest(indexes, kept[0]) == ["before"]
    found = indexes.search("photos", DIGEST, kept[0], 3, Tenant("acme"))
    assert ([hit.item_id for hit in found.hits], found.num_items) == (["acme's"], 1)


def test_item_that_is_added_again_is_replaced(indexes: DiskIndexes) -> None:
    kept = vectors(3)
    indexes.add("photos", DIGEST, ["a", "b"], kept[:2])
    assert indexes.add("photos", DIGEST, ["a"], kept[2:]) == 2
    found = indexes.search("photos", DIGEST, kept[2], 5)
    assert found.hits[0].item_id == "a"
    assert found.hits[0].similarity == pytest.approx(1)
    assert sorted(hit.item_id for hit in found.hits) == ["a", "b"]


def test_indexes_of_other_names_and_other_bundles_are_others(indexes: DiskIndexes) -> None:
    kept = vectors(3)
    indexes.add("photos", DIGEST, ["a"], kept[:1])
    indexes.add("photos", OTHER, ["b"], kept[1:2])
    indexes.add("sounds", DIGEST, ["c"], kept[2:])
    assert nearest(indexes, kept[0]) == ["a"]
    assert nearest(indexes, kept[0], digest=OTHER) == ["b"]
    assert nearest(indexes, kept[0], index="sounds") == ["c"]
    with pytest.raises(BadInput, match="no index 'films'"):
        nearest(indexes, kept[0], index="films")


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "killed"])
def test_index_survives_a_restart(tmp_path: Path, is_closed: bool) -> None:
    kept = vectors(40)
    first = DiskIndexes(tmp_path, [DIGEST])
    first.add("photos", DIGEST, names(30), kept[:30])
    first.add("photos", DIGEST, ["item 3"], kept[35:36])
    if is_closed:
        first.close()
    else:
        _kill(first)
    again = DiskIndexes(tmp_path, [DIGEST])
    assert nearest(again, kept[35], 1) == ["item 3"]
    assert again.search("photos", DIGEST, kept[0], 100).num_items == 30
    assert again.add("photos", DIGEST, ["new"], kept[39:]) == 31
    again.close()


def test_graph_that_is_older_than_the_rows_is_brought_up_to_date(tmp_path: Path) -> None:
    kept = vectors(40)
    first = DiskIndexes(tmp_path, [DIGEST])
    first.add("photos", DIGEST, names(20), kept[:20])
    first.close()
    second = DiskIndexes(tmp_path, [DIGEST])
    second.add("photos", DIGEST, [*names(10, start=20), "item 0"], kept[20:31])
    _kill(second)
    third = DiskIndexes(tmp_path, [DIGEST])
    assert third.search("photos", DIGEST, kept[0], 100).num_items == 30
    assert nearest(third, kept[30], 1) == ["item 0"]
    assert nearest(third, kept[25], 1) == ["item 25"]
    third.close()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 100], ids=["empty", "garbage"])
def test_damaged_graph_is_made_anew_from_the_rows(tmp_path: Path, damage: bytes) -> None:
    kept = vectors(20)
    first = DiskIndexes(tmp_path, [DIGEST])
    first.add("photos", DIGEST, names(20), kept)
    first.close()
    (graph,) = tmp_path.glob("*.graph")
    graph.write_bytes(damage)
    again = DiskIndexes(tmp_path, [DIGEST])
    assert nearest(again, kept[7], 1) == ["item 7"]
    again.close()


def test_damaged_rows_are_one_clear_error(tmp_path: Path) -> None:
    first = DiskIndexes(tmp_path, [DIGEST])
    first.add("photos", DIGEST, names(200), vectors(200))
    first.close()
    (path,) = tmp_path.glob("*.items")
    data = bytearray(path.read_bytes())
    data[:100] = b"x" * 100
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=r"photos\..* is damaged .*; put a copy in its place, or remove it"):
        DiskIndexes(tmp_path, [DIGEST])


def test_vector_whose_bits_changed_is_noticed_when_the_graph_is_made_anew(tmp_path: Path) -> None:
    first = DiskIndexes(tmp_path, [DIGEST])
    first.add("photos", DIGEST, names(5), vectors(5))
    first.close()
    (path,) = tmp_path.glob("*.items")
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE items SET vector = zeroblob(64) WHERE item_id = 'item 2'")
    rows.close()
    next(tmp_path.glob("*.graph")).unlink()
    with pytest.raises(Corrupt, match="the vector of row 3"):
        DiskIndexes(tmp_path, [DIGEST])


def test_index_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    first = DiskIndexes(tmp_path, [DIGEST])
    first.add("photos", DIGEST, ["a"], vectors(1))
    first.close()
    (path,) = tmp_path.glob("*.items")
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE facts SET value = '2' WHERE name = 'format_version'")
    rows.close()
    with pytest.raises(IncompatibleBundle, match="format version 2"):
        DiskIndexes(tmp_path, [DIGEST])


def test_folder_that_another_cloud_uses_is_refused(tmp_path: Path, indexes: DiskIndexes) -> None:
    indexes.add("photos", DIGEST, ["a"], vectors(1))
    with pytest.raises(BadInput, match="does another cloud keep its indexes there"):
        DiskIndexes(tmp_path, [DIGEST])


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot use"):
        DiskIndexes(tmp_path / "file", [DIGEST])


def test_bounds_are_checked_before_anything_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = DiskIndexes(tmp_path / "small", [DIGEST], max_items=5)
    made.add("photos", DIGEST, names(3), vectors(3))
    with pytest.raises(TooLarge, match="no room for 3 more items"):
        made.add("others", DIGEST, names(3), vectors(3))
    with pytest.raises(BadInput, match="of vectors of 16 numbers, and these have 8"):
        made.add("photos", DIGEST, ["wrong"], vectors(1, dim=8))
    with pytest.raises(TooLarge, match="16,385 numbers"):
        made.add("wide", DIGEST, ["wide"], np.zeros((1, 16_385), np.float32))
    monkeypatch.setattr(indexes_module, "MAX_INDEXES", 1)
    with pytest.raises(TooLarge, match="no room for another index"):
        made.add("one more", DIGEST, ["a"], vectors(1))
    assert made.search("photos", DIGEST, vectors(1)[0], 10).num_items == 3
    assert len(list((tmp_path / "small").glob("*.items"))) == 1
    made.close()


def test_item_is_replaced_in_indexes_that_are_full(tmp_path: Path) -> None:
    acme = Tenant("acme", limits=TenantLimits(index_items=3))
    made = DiskIndexes(tmp_path, [DIGEST], max_items=3)
    made.add("photos", DIGEST, names(3), vectors(3), acme)
    assert made.add("photos", DIGEST, names(3), vectors(3, seed=1), acme) == 3
    with pytest.raises(LimitReached, match="may keep 3"):
        made.add("photos", DIGEST, names(2, start=2), vectors(2), acme)
    with pytest.raises(TooLarge, match="no room for 1 more items"):
        made.add("photos", DIGEST, ["another's"], vectors(1), Tenant("other"))
    made.close()


def test_items_that_are_added_at_once_are_counted_before_they_are_kept(tmp_path: Path) -> None:
    acme = Tenant("acme", limits=TenantLimits(index_items=3))
    made = DiskIndexes(tmp_path, [DIGEST])
    made.add("photos", DIGEST, ["first"], vectors(1), acme)
    (kept,) = made._open.values()
    with ThreadPoolExecutor(1) as pool:
        with kept._lock:  # the first of two is on its way to the disk
            slow = pool.submit(made.add, "photos", DIGEST, names(2), vectors(2), acme)
            while not made._coming["acme"]:
                pass
            with pytest.raises(LimitReached, match="keeps 3 items"):
                made.add("others", DIGEST, ["late"], vectors(1), acme)
        assert slow.result(20) == 3
    assert not made._coming
    made.close()


def test_one_tenant_cannot_use_up_the_indexes_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes_module, "MAX_INDEXES_OF_TENANT", 2)
    monkeypatch.setattr(indexes_module, "MAX_INDEXES", 3)
    made = DiskIndexes(tmp_path, [DIGEST])
    for index in ("one", "two"):
        made.add(index, DIGEST, ["a"], vectors(1), Tenant("acme"))
    with pytest.raises(LimitReached, match="acme has 2 indexes, and may have 2"):
        made.add("three", DIGEST, ["a"], vectors(1), Tenant("acme"))
    assert made.add("two", DIGEST, ["b"], vectors(1), Tenant("acme")) == 2
    assert made.add("one", DIGEST, ["a"], vectors(1), Tenant("other")) == 1
    with pytest.raises(TooLarge) as raised:
        made.add("more", DIGEST, ["a"], vectors(1), Tenant("third"))
    assert not re.search(r"\d", str(raised.value))
    made.close()


def test_large_index_finds_nearly_all_nearest_through_its_graph(
    indexes: DiskIndexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes_module, "_EXACT_UP_TO", 100)
    kept = vectors(1500)
    indexes.add("photos", DIGEST, names(1500), kept)
    hits = [nearest(indexes, query, 1)[0] for query in kept[:200]]
    assert sum(hit == f"item {index}" for index, hit in enumerate(hits)) >= 198


def _kill(made: DiskIndexes) -> None:
    """As a process that ends without a word: what is in its memory is lost."""
    for one in made._open.values():
        one._store.close()
