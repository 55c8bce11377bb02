"""Bundles that mean harm to the device that fetches them: nothing outside of its own folder is read or written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_node.bundle_store import BundleStore, StoredBundle
from edge_node.head import Head
from edge_node.text import text_tensors
from tests.edge_node.test_bundle_store import DIGEST, STAGES, Cloud, stored
from tests.kit.clouds import settle
from tests.wire.samples import make_chain
from wire.errors import BadInput, Corrupt, MalformedMessage, TooLarge, Unavailable
from wire.manifest import Arm, InputShape, SplitPoint, Stage, TensorEntry
from wire.text_preprocessing import TextPreprocessing
from wire.v1 import inference_pb2 as pb

OWN = b"what the user keeps outside of the cache"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's own; the cache lies beside it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "own").write_bytes(OWN)
    return folder


def cache(outside: Path) -> Path:
    folder = outside.parent / "cache"
    folder.mkdir(exist_ok=True)
    return folder


def _digest_folder(cache: Path, outside: Path) -> None:
    (cache / DIGEST).symlink_to(outside)


def _stages_folder(cache: Path, outside: Path) -> None:
    (cache / DIGEST).mkdir()
    (cache / DIGEST / "stages").symlink_to(outside)


def _partial_folder(cache: Path, outside: Path) -> None:
    (cache / "partial").symlink_to(outside)


@pytest.mark.parametrize("plant", [_digest_folder, _stages_folder, _partial_folder])
def test_nothing_is_written_through_a_folder_that_is_a_link(
    outside: Path, plant: Callable[[Path, Path], None]
) -> None:
    plant(cache(outside), outside)
    with pytest.raises(BadInput, match="symbolic link"):
        stored(cache(outside), Cloud().fetch)
    assert os.listdir(outside) == ["own"]


def test_nothing_is_written_through_a_partial_file_that_is_a_link(outside: Path) -> None:
    with pytest.raises(Unavailable):
        stored(cache(outside), Cloud().cut)
    [partial] = (cache(outside) / "partial").iterdir()
    partial.unlink()
    partial.symlink_to(outside / "own")
    with pytest.raises(BadInput, match="cannot keep"):
        stored(cache(outside), Cloud().fetch)
    assert (outside / "own").read_bytes() == OWN


def test_pipe_in_a_partial_files_place_is_not_waited_for(outside: Path) -> None:
    with pytest.raises(Unavailable):
        stored(cache(outside), Cloud().cut)
    [partial] = (cache(outside) / "partial").iterdir()
    partial.unlink()
    os.mkfifo(partial)
    with pytest.raises(BadInput, match="cannot keep"):
        stored(cache(outside), Cloud().fetch)


@pytest.mark.parametrize("path", ["manifest.json", STAGES[0]])
def test_link_in_a_files_place_is_not_read_but_replaced(outside: Path, path: str) -> None:
    """Though it is as long as the file: what lies behind it may change at any time."""
    folder = stored(cache(outside), Cloud().fetch).folder
    same_size = outside / "own"
    same_size.write_bytes((folder / path).read_bytes())
    (folder / path).unlink()
    (folder / path).symlink_to(same_size)
    cloud = Cloud()
    stored(cache(outside), cloud.fetch)
    assert cloud.asked == [path]
    assert not (folder / path).is_symlink()


def test_huge_file_in_the_manifests_place_is_not_read_whole(outside: Path) -> None:
    place = cache(outside) / DIGEST / "manifest.json"
    place.parent.mkdir()
    with place.open("wb") as file:
        file.truncate(1 << 40)
    assert stored(cache(outside), Cloud().fetch).manifest.files


def test_empty_parts_without_end_are_refused(outside: Path) -> None:
    async def empty(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        while True:
            await asyncio.sleep(0)
            yield pb.BundlePart(path=path, offset=offset)

    with pytest.raises(MalformedMessage, match="an empty part"):
        stored(cache(outside), empty)


def test_manifest_without_end_is_refused(outside: Path) -> None:
    async def endless(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        while True:
            yield pb.BundlePart(path=path, offset=offset, data=bytes(1 << 18))
            offset += 1 << 18

    with pytest.raises(MalformedMessage, match="4,194,304"):
        stored(cache(outside), endless)
    assert not [path for path in cache(outside).rglob("*") if path.is_file()]


def test_file_above_the_bound_is_not_even_asked_for(outside: Path) -> None:
    cloud = Cloud()
    bundle = stored(cache(outside), cloud.fetch, [])
    [first, *others] = bundle.manifest.files
    huge = msgspec.structs.replace(first, num_bytes=1 << 62)
    manifest = msgspec.structs.replace(bundle.manifest, files=[huge, *others])
    with pytest.raises(TooLarge, match=first.path):
        settle(
            BundleStore(cache(outside)).need(
                StoredBundle(bundle.folder, bundle.digest, manifest), [first.path], cloud.fetch
            )
        )
    assert cloud.asked == ["manifest.json"]


def stage_with_weights(folder: Path, location: str) -> Path:
    """A stage that gives out what lies at `location`, as its weights."""
    weights = TensorProto(name="weights", data_type=TensorProto.UINT8, dims=[16])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    given = helper.make_tensor_value_info("given", TensorProto.UINT8, [16])
    made = helper.make_tensor_value_info("made", TensorProto.UINT8, [16])
    graph = helper.make_graph(
        [helper.make_node("BitwiseOr", ["given", "weights"], ["made"])], "stage", [given], [made], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / STAGES[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def head_of(folder: Path) -> Head:
    given, made = (TensorEntry(name, "uint8", [16]) for name in ("given", "made"))
    points = [SplitPoint(0, "input", [given], 16), SplitPoint(1, "output", [made], 16)]
    chain = msgspec.structs.replace(
        make_chain(), input_shape=InputShape("all", [given]), split_points=points, stages=[Stage(0, STAGES[0])],
        codecs=[], default_arm=Arm(1, "raw"),
    )  # fmt: skip
    return Head(folder, chain)


def test_weights_beside_a_stage_are_read(tmp_path: Path) -> None:
    """So that the others can fail."""
    (stage_with_weights(tmp_path, "weights").parent / "weights").write_bytes(OWN)
    [made] = head_of(tmp_path).run([np.zeros(16, np.uint8)], 1)
    assert made.tobytes() == OWN[:16]


@pytest.mark.parametrize(
    "location",
    [
        "../../../home/own",
        "../own",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "link",
        "folder/own",
        "./../../../home/own",
        "missing",
        "",
        ".",
    ],
)
def test_stage_reads_no_file_outside_of_its_folder(outside: Path, location: str) -> None:
    """onnxruntime before 1.24 gave these out as features, which go to whoever wrote the bundle."""
    folder = outside.parent / "bundle"
    stage = stage_with_weights(folder, location)
    (stage.parent.parent / "own").write_bytes(OWN)
    (stage.parent / "link").symlink_to(outside / "own")
    (stage.parent / "folder").symlink_to(outside)
    with pytest.raises(Corrupt, match="does not load"):
        head_of(folder).load(1)


def recipe() -> TextPreprocessing:
    return TextPreprocessing("tokenizer.json", "00" * 32, 16, 0, "right", has_mask=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":["x y"]}}',
        b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"missing"}}',
        b'{"version":"1.0","model":{"type":"Unigram","unk_id":7,"vocab":[]}}',
    ],
    ids=lambda content: f"{content[:40]!r}",
)
def test_tokenizer_that_does_not_work_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(Corrupt, match="no tokenizer that works"):
        text_tensors(recipe(), "what is this?", tmp_path)
