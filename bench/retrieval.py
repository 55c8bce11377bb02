"""Retrieval: recall of the committed dual encoder, and what indexes of 1,000 and 100,000 vectors cost.

Recall is measured twice: by the model's own towers, and through the real path, where pictures are added to an index on
the cloud from features that a device sends, and searched for by captions, and the other way round.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from bench.in_process import cloud_thread
from bench.report import Bar, Result, Table
from cleave.assets import resolve_model
from cleave.terminal import Report
from cloud_node.model.serving import serve
from cloud_node.ready import Ready
from cloud_node.retrieval.indexes import DiskIndexes
from edge_node.node import AsyncEdgeNode
from edge_node.preprocess import preprocess
from partitioner.partition import Wishes, partition
from splitmodel.loading import load
from training.dual.evaluate import FIRST_EVALUATED_SEED, HeldOut, evaluate, held_out

LEAST_RECALL = 0.80
_AT = (1, 5, 10)
# Scenes that nobody measured on while the model was made.
FIRST_SEED = FIRST_EVALUATED_SEED + (1 << 24)
_DIM = 128
_SEARCHES = 200


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """`data` is not needed: the scenes are rendered."""
    num_scenes, sizes = (100, (1_000,)) if quick else (500, (1_000, 100_000))
    model = Path(resolve_model("dual"))
    towers = asdict(evaluate(model, num_scenes, FIRST_SEED))
    samples = held_out(FIRST_SEED, num_scenes, "full")
    with tempfile.TemporaryDirectory(prefix="cleave-retrieval-") as folder:
        through = asyncio.run(_through(model, Path(folder), samples, progress))
        indexes = {size: _index_times(Path(folder) / f"vectors-{size}", size) for size in sizes}
    rows = [(way, *(f"{100 * found[k]:.1f}" for k in _AT)) for way, found in through["recall"].items()]
    times = [
        (f"{size:,}", f"{1e6 * one['add_s'] / size:.1f}", f"{1e3 * one['search_s']:.2f}", f"{one['recall']:.3f}",
         f"{one['num_bytes'] / 1e6:.1f}", f"{1e3 * one['load_s']:.0f}")
        for size, one in indexes.items()
    ]  # fmt: skip
    return Result(
        name="retrieval",
        settings={"quick": quick, "scenes": num_scenes, "vectors": list(sizes), "dim": _DIM},
        seed=FIRST_SEED,
        bars=[
            *(Bar(f"recall@1 among {num_scenes}, {way}", found[1], LEAST_RECALL, "at least")
              for way, found in through["recall"].items()),
            *(Bar(f"nearest 10 of {size:,} that a search finds", one["recall"], 0.95, "at least")
              for size, one in indexes.items()),
        ],
        tables=[
            Table(f"recall among {num_scenes} held-out scenes, through the real path, %",
                  ("way", *(f"@{k}" for k in _AT)), rows),
            Table("indexes of random unit vectors", ("vectors", "add, us each", "search, ms", "of the nearest 10",
                  "MB on disk", "load, ms"), times),
        ],
        measured={"towers": towers, "through": through, "indexes": indexes},
    )  # fmt: skip


async def _through(model: Path, folder: Path, samples: HeldOut, progress: Report) -> dict[str, Any]:
    """Recall both ways, from features on the wire; and how long adding and searching took, at 8 at a time."""
    checkpoint = load(str(model))
    bundle = partition(checkpoint, folder / "bundle", preprocess, Wishes(name="dual")).folder
    served, runner = serve(checkpoint, bundle)
    pictures = [Image.fromarray(pixels) for pixels in samples.pictures.pixels]
    texts = [one.text for one in samples.captions]
    found: dict[str, Any] = {"recall": {}, "seconds": {}}
    with cloud_thread(
        [Ready(served, runner, bundle)], cache_bytes=0, index_dir=folder / "indexes"
    ) as address:
        async with AsyncEdgeNode(address, bundles=folder / "kept", num_threads=1, memory_bytes=0) as edge:
            ways: list[tuple[str, str, str, Sequence[Any], Sequence[Any]]] = [
                ("text to picture", "image", "text", pictures, texts),
                ("picture to text", "text", "image", texts, pictures),
            ]
            for way, kept, asked, items, queries in ways:
                index = way.replace(" ", "-")
                started = time.perf_counter()
                await _each(
                    len(items), lambda i, k=kept, x=items, n=index: edge.index_add(n, str(i), **{k: x[i]})
                )
                added = time.perf_counter()
                ranks = await _each(
                    len(queries),
                    lambda i, a=asked, x=queries, n=index: _rank(edge, n, i, {a: x[i]}),
                )
                found["seconds"][way] = {"add": added - started, "search": time.perf_counter() - added}
                found["recall"][way] = {k: sum(rank < k for rank in ranks) / len(ranks) for k in _AT}
                progress("retrieval", len(found["recall"]), len(ways))
    return found


async def _rank(edge: AsyncEdgeNode, index: str, wanted: int, query: dict[str, Any]) -> int:
    """At which place the true item comes; a large number where it does not."""
    hits = await edge.search(index, num_hits=max(_AT), **query)
    return next((place for place, hit in enumerate(hits) if hit.item_id == str(wanted)), 1 << 20)


async def _each(count: int, start: Any) -> list[Any]:
    turn = asyncio.Semaphore(8)

    async def one(index: int) -> Any:
        async with turn:
            return await start(index)

    return await asyncio.gather(*(one(index) for index in range(count)))


def _index_times(folder: Path, size: int) -> dict[str, float]:
    """What the store takes by itself: adding in batches of 1,000, searching, loading; and what it finds."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((size, _DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    digest = "0" * 64
    store = DiskIndexes(folder, [digest])
    started = time.perf_counter()
    for at in range(0, size, 1_000):
        batch = vectors[at : at + 1_000]
        store.add("bench", digest, [str(at + i) for i in range(len(batch))], batch)
    store.close()
    add_s = time.perf_counter() - started
    started = time.perf_counter()
    store = DiskIndexes(folder, [digest])
    store.search("bench", digest, vectors[0], 10)
    load_s = time.perf_counter() - started
    times, kept = [], 0
    for query in rng.standard_normal((_SEARCHES, _DIM)).astype(np.float32):
        query /= np.linalg.norm(query)
        started = time.perf_counter()
        hits = store.search("bench", digest, query, 10).hits
        times.append(time.perf_counter() - started)
        nearest = set(np.argsort(-(vectors @ query))[:10].tolist())
        kept += len(nearest & {int(hit.item_id) for hit in hits})
    store.close()
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "add_s": add_s, "load_s": load_s, "search_s": median(times), "recall": kept / (10 * _SEARCHES),
        "num_bytes": num_bytes,
    }  # fmt: skip
