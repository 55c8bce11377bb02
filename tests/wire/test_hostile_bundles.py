"""What a bundle may not say of itself, by name: its manifest may be anybody's, and its files may have been changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_node.bundle_files import BundleFiles
from cloud_node.model.serving import open_bundle
from tests.kit.clouds import served_from
from tests.wire.samples import CONTENTS, make_manifest, write_bundle
from wire.errors import CleaveError, Corrupt, IncompatibleBundle, Internal, MalformedMessage, TooLarge
from wire.limits import MAX_MANIFEST_BYTES
from wire.manifest import dump_manifest, load_manifest
from wire.v1 import inference_pb2 as pb

STAGE = "stages/image/000.onnx"
SECRET = b"what lies outside of the bundle"

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    write_bundle(folder)
    (folder / "manifest.json").write_bytes(dump_manifest(make_manifest()))
    (tmp_path / "secret").write_bytes(SECRET)
    return folder


def changed(change: Change) -> bytes:
    manifest = json.loads(dump_manifest(make_manifest()))
    change(manifest)
    return json.dumps(manifest).encode()


def also_listed(path: str) -> Change:
    return lambda manifest: manifest["files"].append({"path": path, "num_bytes": 3, "sha256": "00" * 32})


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "/etc/passwd",
        "stages/../../secret",
        "stages\\..\\secret",
        "a\0b",
        "C:/x",
        "nul",
        "a/b/c/d/e",
    ],
)
def test_manifest_that_lists_a_file_outside_is_refused(path: str) -> None:
    with pytest.raises(MalformedMessage, match="not allowed"):
        load_manifest(changed(also_listed(path)))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "stages/image/000.onnx/..", "x\0"])
@pytest.mark.parametrize("place", ["path", "weights"])
def test_stage_that_names_a_file_outside_is_refused(path: str, place: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["chains"][0]["stages"][0][place] = path

    with pytest.raises(MalformedMessage, match="not allowed"):
        load_manifest(changed(change))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (STAGE, "twice, or in another case"),
        (STAGE.upper(), "twice, or in another case"),
        ("Stages/Image/000.ONNX", "twice, or in another case"),
        ("manifest.json", "twice, or in another case"),
        ("MANIFEST.JSON", "twice, or in another case"),
        ("manifest.sig", "twice, or in another case"),
        ("manifest.json/x", "a file and as a folder"),
        ("stages", "a file and as a folder"),
        ("STAGES/IMAGE", "a file and as a folder"),
        (f"{STAGE}/x", "a file and as a folder"),
    ],
)
def test_files_that_one_disk_holds_only_one_of_are_refused(path: str, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        load_manifest(changed(also_listed(path)))


def test_stage_that_the_manifest_does_not_list_is_refused() -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["chains"][0]["stages"][0]["path"] = "stages/image/999.onnx"

    with pytest.raises(MalformedMessage, match="does not list it"):
        load_manifest(changed(change))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b'{"format_version": 2, "chains": ' + b"[" * 1_000_000,
        b'{"format_version": ' + b"9" * 100_000 + b"}",
        b'{"format_version": 2' + b" " * 1_000_000,
        b'{"format_version": 1e999}',
        b"\xff\xfe{\0",
        b'{"\\ud800": 1}',
        b"",
        b"null",
    ],
    ids=lambda data: f"{data[:24]!r} of {len(data)}",
)
def test_json_that_is_none_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="the manifest is not valid"):
        load_manifest(data)


def test_huge_manifest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk holds it, and no memory would
    with pytest.raises(TooLarge, match=f"at most {MAX_MANIFEST_BYTES} are read"):
        load_manifest(path)
    with pytest.raises(TooLarge):
        open_bundle(tmp_path)


@pytest.mark.parametrize("shape", [[1 << 62] * 8, [1 << 31, 1], [0, 1 << 62, 1 << 62]])
def test_tensor_that_nobody_could_hold_is_refused(shape: list[int]) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for place in (manifest["chains"][0]["input_shape"], manifest["chains"][0]["split_points"][0]):
            place["tensors"][0]["shape"] = shape

    with pytest.raises(TooLarge, match="takes over"):
        load_manifest(changed(change))


def test_manifest_full_of_entries_is_read_or_refused_in_bounded_memory() -> None:
    """As many files as fit: what is made of the largest manifest is a few times its size."""
    from tests.wire.test_hostile import peak_bytes

    entry = msgspec.json.encode({"path": "stages/000", "num_bytes": 1, "sha256": "00" * 32})
    data = changed(lambda manifest: manifest["files"].clear())
    filled = data.replace(b'"files": []', b'"files": [' + b",".join([entry] * 16_384) + b"]")
    assert len(filled) < MAX_MANIFEST_BYTES

    def read() -> None:
        with pytest.raises(MalformedMessage):
            load_manifest(filled)

    assert peak_bytes(read) < 10 * MAX_MANIFEST_BYTES
    many = filled.replace(b"]", b"," + entry + b"]", 1)
    with pytest.raises(CleaveError):
        load_manifest(many)


def linked(bundle: Path, path: str) -> None:
    """That path of the bundle leads to the secret."""
    target = bundle / path
    if target.is_dir():
        target.rename(bundle.parent / "moved")
        target.symlink_to(bundle.parent / "moved")
    else:
        target.unlink()
        target.symlink_to(bundle.parent / "secret")


@pytest.mark.parametrize(
    "path", ["manifest.json", STAGE, "stages", "stages/image", "probe/probe.safetensors"]
)
def test_cloud_does_not_begin_with_a_bundle_that_leads_outside(bundle: Path, path: str) -> None:
    open_bundle(bundle)
    linked(bundle, path)
    with pytest.raises(IncompatibleBundle, match="symbolic link"):
        open_bundle(bundle)


@pytest.mark.parametrize("path", ["manifest.json", STAGE, "stages", "stages/image"])
def test_link_that_appears_while_a_bundle_is_served_is_not_followed(bundle: Path, path: str) -> None:
    files = BundleFiles(bundle, served_from(bundle))
    asked = pb.FetchBundleRequest(path=path if path == "manifest.json" else STAGE)
    assert b"".join(part.data for part in files.parts(asked))
    linked(bundle, path)
    with pytest.raises(Internal, match="no plain file") as refused:
        list(files.parts(asked))
    assert str(bundle.parent) not in str(refused.value)


def test_bundle_folder_itself_may_be_a_link(bundle: Path) -> None:
    """An operator's `current` that points at a version."""
    current = bundle.parent / "current"
    current.symlink_to(bundle)
    manifest, digest = open_bundle(current)
    files = BundleFiles(current, served_from(current))
    assert (manifest, digest) == open_bundle(bundle)
    parts = files.parts(pb.FetchBundleRequest(path=STAGE))
    assert b"".join(part.data for part in parts) == CONTENTS[STAGE]


def test_file_of_another_hash_is_refused(bundle: Path) -> None:
    (bundle / STAGE).write_bytes(CONTENTS[STAGE][::-1])
    with pytest.raises(Corrupt, match="SHA-256"):
        open_bundle(bundle)
