"""A download that a real server's end, a kill or another process breaks: the rest is fetched, and only the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from cloud_node.asked.served import Bounds, Served
from cloud_node.bundle_files import BundleFiles
from cloud_node.caching.cache import Cache
from cloud_node.service import InferenceService
from cloud_node.streams.host import Host
from edge_node.bundle_store import BundleStore, Progress
from edge_node.link import CloudLink
from edge_node.partial_files import MAX_PARTIAL_FILES, open_partial, surplus
from edge_node.patience import IMPATIENT
from tests.kit.clouds import limits, settle
from tests.wire.samples import CONTENTS, make_manifest
from wire.errors import Unavailable
from wire.manifest import FileEntry, bundle_digest, dump_manifest
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

PATH = "stages/image/000.onnx"
CONTENT = np.random.default_rng(0).bytes(1_000_000)  # four parts
PART = 256 << 10


class Counting(InferenceService):
    """The cloud's own FetchBundle; notes what is asked for and what goes out, and stalls where it is told to."""

    def __init__(self, served: Served, bundle: Path) -> None:
        host = Host({}, Bounds(limits(), 60, 60), "0", Cache(None))
        super().__init__(host, [BundleFiles(bundle, served)], max_detached=1)
        self.asked: list[tuple[str, int]] = []
        self.sent_bytes = 0
        self.stall_after = len(CONTENT)

    async def FetchBundle(self, request: pb.FetchBundleRequest, context: Any) -> AsyncIterator[pb.BundlePart]:
        self.asked.append((request.path, request.offset))
        async for part in super().FetchBundle(request, context):
            if part.path == PATH and part.offset >= self.stall_after:
                await asyncio.Event().wait()
            self.sent_bytes += len(part.data) if part.path == PATH else 0
            yield part


class Bundle:
    """A bundle on disk whose first stage takes several parts."""

    def __init__(self, folder: Path) -> None:
        files = {**CONTENTS, PATH: CONTENT}
        entries = [FileEntry(path, len(data), sha256(data).hexdigest()) for path, data in files.items()]
        manifest = msgspec.structs.replace(make_manifest(), files=entries)
        for path, data in {**files, "manifest.json": dump_manifest(manifest)}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        self.folder = folder
        self.digest = bundle_digest(dump_manifest(manifest))
        self.service = Counting(Served("tiny", manifest, self.digest, {}), folder)

    @contextlib.asynccontextmanager
    async def cloud(self) -> AsyncIterator[tuple[grpc.aio.Server, CloudLink]]:
        """With a link that is lost where it is lost: whoever asks again does so by himself."""
        server = grpc.aio.server()
        pb_grpc.add_InferenceServicer_to_server(self.service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        link = CloudLink(f"127.0.0.1:{port}", patience=IMPATIENT)
        await server.start()
        try:
            yield server, link
        finally:
            await link.close()
            await server.stop(None)

    async def fetch(self, kept: Path, link: CloudLink, progress: Progress | None = None) -> None:
        store = BundleStore(kept, progress)
        await store.need(await store.open(self.digest, link.fetch), [PATH], link.fetch)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "served")


def partial_bytes(kept: Path) -> list[int]:
    return [path.stat().st_size for path in (kept / "partial").iterdir()]


async def fetch_until_cut(bundle: Bundle, kept: Path, cut: Callable[[grpc.aio.Server], Any]) -> None:
    """Half of the file arrives; then the server is cut."""
    bundle.service.stall_after = 2 * PART
    async with bundle.cloud() as (server, link):
        half = asyncio.Event()
        fetching = asyncio.ensure_future(
            bundle.fetch(kept, link, lambda _, done, __: half.set() if done == 2 * PART else None)
        )
        await half.wait()
        await cut(server)
        with pytest.raises(Unavailable):
            await fetching
    bundle.service.stall_after = len(CONTENT)


def test_server_that_ends_in_the_middle_costs_no_byte_twice(tmp_path: Path, bundle: Bundle) -> None:
    async def run() -> list[int]:
        await fetch_until_cut(bundle, tmp_path / "kept", lambda server: server.stop(None))
        assert partial_bytes(tmp_path / "kept") == [2 * PART]
        told: list[int] = []
        async with bundle.cloud() as (_, link):
            await bundle.fetch(tmp_path / "kept", link, lambda _, done, total: told.append(done))
        return told

    told = settle(run())
    assert bundle.service.asked == [("manifest.json", 0), (PATH, 0), (PATH, 2 * PART)]
    assert bundle.service.sent_bytes == len(CONTENT)
    assert told == [2 * PART, 3 * PART, len(CONTENT)]
    assert (tmp_path / "kept" / bundle.digest / PATH).read_bytes() == CONTENT
    assert partial_bytes(tmp_path / "kept") == []


def test_fetching_that_is_cancelled_goes_on_the_next_time(tmp_path: Path, bundle: Bundle) -> None:
    async def run() -> None:
        bundle.service.stall_after = PART
        async with bundle.cloud() as (_, link):
            arrived = asyncio.Event()
            fetching = asyncio.ensure_future(
                bundle.fetch(
                    tmp_path / "kept", link, lambda _, done, __: arrived.set() if done == PART else None
                )
            )
            await arrived.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            bundle.service.stall_after = len(CONTENT)
            await bundle.fetch(tmp_path / "kept", link)

    settle(run())
    assert bundle.service.asked[-1] == (PATH, PART)
    assert (tmp_path / "kept" / bundle.digest / PATH).read_bytes() == CONTENT


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(b"from the other process")
file.flush()
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_process_writes(path: Path) -> Any:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_another_process_writes_is_neither_read_nor_touched(tmp_path: Path, bundle: Bundle) -> None:
    kept = tmp_path / "kept"

    async def run() -> None:
        await fetch_until_cut(bundle, kept, lambda server: server.stop(None))
        [partial] = (kept / "partial").iterdir()
        with another_process_writes(partial):
            before = partial.read_bytes()
            async with bundle.cloud() as (_, link):
                await bundle.fetch(kept, link)
            assert partial.read_bytes() == before

    settle(run())
    assert bundle.service.asked[-1] == (PATH, 0)
    assert (kept / bundle.digest / PATH).read_bytes() == CONTENT


def test_what_a_killed_process_left_is_gone_on_with(tmp_path: Path) -> None:
    with open_partial(tmp_path, "key", is_resumed=True) as part:
        path = part.path
    with another_process_writes(path) as process:
        with open_partial(tmp_path, "key", is_resumed=True) as part:
            assert part.path != path
        process.kill()
        process.wait()
        with open_partial(tmp_path, "key", is_resumed=True) as part:
            assert part.path == path
            assert part.hash_so_far(100)[0] == len("from the other process")


def test_partial_files_are_few_and_the_oldest_go_first(tmp_path: Path) -> None:
    for number in range(8):
        with open_partial(tmp_path, str(number), is_resumed=True) as part:
            part.file.write(b"x")
        os.utime(part.path, (number, number))
    assert len(list(tmp_path.iterdir())) == MAX_PARTIAL_FILES
    with open_partial(tmp_path, "7", is_resumed=True) as part:
        assert part.hash_so_far(100)[0] == 1


def test_own_partial_file_is_never_surplus() -> None:
    files = [("a", 3.0), ("own", 0.0), ("b", 1.0), ("c", 2.0)]
    assert surplus(files, "own", most=2) == ["c", "b"]
    assert surplus(files, "own", most=4) == []


def test_partial_file_that_is_being_written_is_not_discarded(tmp_path: Path) -> None:
    with open_partial(tmp_path, "old", is_resumed=True) as old:
        os.utime(old.path, (0, 0))
        for number in range(8):
            with open_partial(tmp_path, str(number), is_resumed=True):
                pass
        assert old.path.exists()
