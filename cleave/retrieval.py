"""`cleave index` and `cleave search`: pictures by what they show, from features that this device sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cleave.connecting import Connection
from cleave.terminal import print_table, printable, progress_bars
from wire.errors import BadInput, CleaveError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif")
# So many are on their way at once: enough to keep link and cloud busy, few enough to stop soon.
_AT_ONCE = 8


def index_and_print(
    connection: Connection,
    paths: Sequence[Path],
    index: str,
    *,
    as_json: bool,
    **options: Any,
) -> bool:
    """Adds every picture, and says which could not be added; False where there was one."""
    files = _files(paths)
    failed = asyncio.run(_add_all(connection, files, index, options))
    added = len(files) - len(failed)
    if as_json:
        print(json.dumps({"index": index, "added": added, "failed": failed, "ok": not failed}))
        return not failed
    for path, reason in failed.items():
        print(f"{path}: {reason}")
    print(f"{added:,} of {len(files):,} pictures are in index {index!r}")
    return not failed


def search_and_print(
    connection: Connection,
    text: str,
    image: Path | None,
    sound: Path | None,
    index: str,
    num_hits: int,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Prints what is nearest, the nearest first."""
    given = {"text": text or None, "image": image, "sound": sound}
    wanted = {name: value for name, value in given.items() if value is not None}
    if len(wanted) != 1:
        raise BadInput(f"search for one thing: words, --image or --sound, and {len(wanted)} were given")
    with connection.edge() as edge:
        hits = edge.search(index, num_hits=num_hits, **wanted, **options)
    if as_json:
        print(
            json.dumps(
                {"hits": [{"item": hit.item_id, "similarity": hit.similarity} for hit in hits], "ok": True}
            )
        )
        return
    rows = [(rank, printable(hit.item_id), f"{hit.similarity:.3f}") for rank, hit in enumerate(hits, 1)]
    what = text or str(image or sound)
    print_table(f"{printable(what)} in {index}", ("", "item", "similarity"), rows)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the pictures in the folders named, below them included."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix.lower() in _PICTURES)
        else:
            files.append(path)
    if not files:
        raise BadInput(
            f"there is no picture in {', '.join(map(str, paths))}; give files, or folders that hold some"
        )
    return files


async def _add_all(
    connection: Connection,
    files: Sequence[Path],
    index: str,
    options: dict[str, Any],
) -> dict[str, str]:
    """By path, why a picture is not in the index. Raises what is no one picture's fault."""
    failed: dict[str, str] = {}
    turn = asyncio.Semaphore(_AT_ONCE)
    async with connection.async_edge() as edge:
        with progress_bars() as progress:

            async def add(path: Path) -> None:
                async with turn:
                    try:
                        await edge.index_add(index, str(path), image=path, **options)
                    except CleaveError as error:
                        failed[str(path)] = str(error)
                    done = len(files) - len(left) + 1
                    left.discard(path)
                    progress("index", done, len(files))

            left = set(files)
            await asyncio.gather(*(add(path) for path in files))
    if len(failed) == len(files):
        raise BadInput(f"no picture could be added: {next(iter(failed.values()))}")
    return failed
