"""Bundles on disk: only whole, right files appear; whatever a cloud sends, the folder stays sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from edge_node.bundle_store import BundleStore, Fetch, StoredBundle, default_folder
from tests.kit.clouds import settle
from tests.wire.samples import CONTENTS, make_manifest
from wire.errors import BadInput, CleaveError, Corrupt, IncompatibleBundle, MalformedMessage, Unavailable
from wire.manifest import bundle_digest, dump_manifest
from wire.v1 import inference_pb2 as pb

MANIFEST = dump_manifest(make_manifest())
DIGEST = bundle_digest(MANIFEST)
STAGES = ["stages/image/000.onnx", "stages/image/001.onnx"]


class Cloud:
    """Sends files in parts of 4 bytes, and counts what is asked for."""

    def __init__(self, first_stage: bytes = CONTENTS[STAGES[0]]) -> None:
        self.files = {"manifest.json": MANIFEST, **CONTENTS, STAGES[0]: first_stage}
        self.asked: list[str] = []

    async def fetch(self, digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        self.asked.append(path if not offset else f"{path} from {offset}")
        data = self.files[path]
        for start in range(offset, len(data), 4):
            await asyncio.sleep(0)
            yield pb.BundlePart(path=path, offset=start, total_bytes=len(data), data=data[start : start + 4])

    async def cut(self, digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        """Sends one part of a stage, and no more."""
        parts = self.fetch(digest, path, offset)
        yield await anext(parts)
        if path in STAGES:
            raise Unavailable("the connection was lost")
        async for part in parts:
            yield part


def stored(folder: Path, fetch: Fetch, paths: list[str] = STAGES) -> StoredBundle:
    async def run() -> StoredBundle:
        store = BundleStore(folder)
        bundle = await store.open(DIGEST, fetch)
        await store.need(bundle, paths, fetch)
        return bundle

    return settle(run())


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_what_is_needed_is_fetched_and_only_once(tmp_path: Path) -> None:
    cloud = Cloud()
    bundle = stored(tmp_path, cloud.fetch, STAGES[:1])
    assert cloud.asked == ["manifest.json", STAGES[0]]
    assert (bundle.folder / STAGES[0]).read_bytes() == CONTENTS[STAGES[0]]
    stored(tmp_path, cloud.fetch, STAGES)
    assert cloud.asked == ["manifest.json", STAGES[0], STAGES[1]]


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (b"FIRST STAGE", Corrupt),
        (b"first", Corrupt),
        (b"", Corrupt),
        (b"first stage and more", MalformedMessage),
    ],
)
def test_file_that_is_not_the_listed_one_leaves_nothing(
    tmp_path: Path, lie: bytes, error: type[CleaveError]
) -> None:
    cloud = Cloud(lie)
    with pytest.raises(error):
        stored(tmp_path, cloud.fetch)
    assert files_in(tmp_path) == [f"{DIGEST}/manifest.json"]


def test_parts_out_of_order_are_refused(tmp_path: Path) -> None:
    async def reordered(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        parts = [part async for part in Cloud().fetch(digest, path, offset)]
        for part in reversed(parts):
            yield part

    with pytest.raises(MalformedMessage, match="offset"):
        stored(tmp_path, reordered)
    assert files_in(tmp_path) == []


def test_manifest_of_another_digest_is_refused(tmp_path: Path) -> None:
    cloud = Cloud()
    cloud.files["manifest.json"] = MANIFEST.replace(b"sample/tiny", b"another/one")
    with pytest.raises(Corrupt):
        stored(tmp_path, cloud.fetch)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("digest", ["", "../../etc", "A" * 64, "a" * 63, "a" * 63 + "/"])
def test_digest_that_is_none_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(MalformedMessage):
        settle(BundleStore(tmp_path).open(digest, Cloud().fetch))


def test_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleBundle, match=r"secret"):
        stored(tmp_path, Cloud().fetch, ["../secret"])


def test_fetching_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    cloud = Cloud()
    for _ in range(2):
        with pytest.raises(Unavailable):
            stored(tmp_path, cloud.cut)
    assert not (tmp_path / DIGEST / STAGES[0]).exists()
    stored(tmp_path, cloud.fetch)
    assert cloud.asked == [
        "manifest.json",
        STAGES[0],
        f"{STAGES[0]} from 4",
        f"{STAGES[0]} from 8",
        STAGES[1],
    ]
    assert (tmp_path / DIGEST / STAGES[0]).read_bytes() == CONTENTS[STAGES[0]]
    assert files_in(tmp_path) == [f"{DIGEST}/{path}" for path in ["manifest.json", *STAGES]]


def test_manifest_that_breaks_off_begins_anew(tmp_path: Path) -> None:
    """Nobody knows how long it is, so that a beginning that is too long could never be told."""

    async def cut(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        yield await anext(Cloud().fetch(digest, path, offset))
        raise Unavailable("the connection was lost")

    with pytest.raises(Unavailable):
        stored(tmp_path, cut)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("there", [b"FIRS", b"first stagE", b"much more than the file has"])
def test_beginning_that_is_not_the_files_own_is_thrown_away(tmp_path: Path, there: bytes) -> None:
    with pytest.raises(Unavailable):
        stored(tmp_path, Cloud().cut)
    [partial] = (tmp_path / "partial").iterdir()
    partial.write_bytes(there)
    if len(there) <= len(CONTENTS[STAGES[0]]):
        with pytest.raises(Corrupt, match="ask again"):
            stored(tmp_path, Cloud().fetch)
        assert not partial.exists()
    cloud = Cloud()
    stored(tmp_path, cloud.fetch)
    assert cloud.asked == STAGES


def test_beginning_that_is_the_whole_file_is_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        stored(tmp_path, Cloud().cut)
    [partial] = (tmp_path / "partial").iterdir()
    partial.write_bytes(CONTENTS[STAGES[0]])
    stored(tmp_path, Cloud().fetch)
    assert (tmp_path / DIGEST / STAGES[0]).read_bytes() == CONTENTS[STAGES[0]]


@pytest.mark.parametrize("path", ["manifest.json", STAGES[0]])
def test_truncated_file_is_fetched_again(tmp_path: Path, path: str) -> None:
    folder = stored(tmp_path, Cloud().fetch).folder
    whole = (folder / path).read_bytes()
    (folder / path).write_bytes(whole[:-1])
    cloud = Cloud()
    stored(tmp_path, cloud.fetch)
    assert cloud.asked == [path]
    assert (folder / path).read_bytes() == whole


def test_two_stores_on_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    async def run() -> list[StoredBundle]:
        async def one() -> StoredBundle:
            store, cloud = BundleStore(tmp_path), Cloud()
            bundle = await store.open(DIGEST, cloud.fetch)
            await store.need(bundle, STAGES, cloud.fetch)
            return bundle

        return await asyncio.gather(*(one() for _ in range(4)))

    settle(run())
    assert files_in(tmp_path) == [f"{DIGEST}/{path}" for path in ["manifest.json", *STAGES]]
    assert (tmp_path / DIGEST / STAGES[1]).read_bytes() == CONTENTS[STAGES[1]]


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="set CLEAVE_CACHE"):
        stored(tmp_path / "file", Cloud().fetch)
    with pytest.raises(BadInput, match="set CLEAVE_CACHE"):
        stored(Path("/proc/none"), Cloud().fetch)


def test_something_in_a_files_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / DIGEST / "manifest.json").mkdir(parents=True)
    with pytest.raises(BadInput, match="set CLEAVE_CACHE"):
        stored(tmp_path, Cloud().fetch)


def test_progress_of_the_manifest_is_its_own(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    async def run() -> None:
        await BundleStore(tmp_path, lambda *now: told.append(now)).open(DIGEST, Cloud().fetch)

    settle(run())
    assert told[0] == ("manifest.json", 4, len(MANIFEST))
    assert told[-1] == ("manifest.json", len(MANIFEST), len(MANIFEST))


def test_progress_of_several_files_is_one_total_that_counts_from_where_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        stored(tmp_path, Cloud().cut)
    told: list[tuple[str, int, int]] = []

    async def run() -> None:
        store = BundleStore(tmp_path, lambda *now: told.append(now))
        await store.need(await store.open(DIGEST, Cloud().fetch), STAGES, Cloud().fetch)

    settle(run())
    total = sum(len(CONTENTS[path]) for path in STAGES)
    assert {row[2] for row in told} == {total}
    assert [row[1] for row in told] == [4, 8, 11, 15, 19, total]


def test_cache_folder_is_the_environments_if_it_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEAVE_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "bundles"
