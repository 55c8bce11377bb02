"""Paths and files of a bundle."""

import os
from pathlib import Path

import pytest

from tests.wire.samples import make_manifest, write_bundle
from wire.errors import Corrupt, IncompatibleBundle, MalformedMessage
from wire.manifest import FileEntry, check_files, safe_path

STAGE = "stages/image/000.onnx"


@pytest.mark.parametrize(
    "path", ["manifest.json", STAGE, "a/b/c/d", "..a", "a..b/..c", "-x", "console", "a.con"]
)
def test_safe_path(path: str) -> None:
    assert str(safe_path(path)) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./x",
        "a//b",
        "a/",
        "/etc/passwd",
        "~/x",
        "C:\\x",
        "C:/x",
        "a\\..\\x",
        "a\0b",
        "a\n",
        "x y",
        "é",
        "\u2025/x",
        "a/b/c/d/e",
        "x" * 256,
        "a.",
        "a../b",
        "CON",
        "stages/nul",
        "stages/Aux.onnx",
        "com1.tar.gz/x",
        "lpt9",
    ],
)
def test_path_traversal(path: str) -> None:
    with pytest.raises(MalformedMessage, match="not allowed"):
        safe_path(path)
    with pytest.raises(MalformedMessage, match="not allowed"):
        FileEntry(path, 0, "00" * 32)


def test_complete_bundle_passes_and_other_files_are_ignored(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    check_files(tmp_path, make_manifest())


def test_missing_file(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / STAGE).unlink()
    with pytest.raises(IncompatibleBundle, match=r"000\.onnx cannot be read"):
        check_files(tmp_path, make_manifest())


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / STAGE).unlink()
    (tmp_path / STAGE).mkdir()
    with pytest.raises((IncompatibleBundle, Corrupt), match=r"000\.onnx"):
        check_files(tmp_path, make_manifest())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / STAGE).unlink()
    os.mkfifo(tmp_path / STAGE)
    with pytest.raises(IncompatibleBundle, match=r"000\.onnx"):
        check_files(tmp_path, make_manifest())


@pytest.mark.parametrize("content", [b"", b"first stagE", b"first stage and more"])
def test_file_with_other_content_is_corrupt(tmp_path: Path, content: bytes) -> None:
    write_bundle(tmp_path)
    (tmp_path / STAGE).write_bytes(content)
    with pytest.raises(Corrupt, match="fetch it again"):
        check_files(tmp_path, make_manifest())


def test_symlink_to_a_file_is_refused_though_its_content_is_right(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / STAGE).rename(tmp_path / "elsewhere")
    (tmp_path / STAGE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IncompatibleBundle, match="symbolic link"):
        check_files(tmp_path, make_manifest())


def test_symlink_to_a_folder_is_refused(tmp_path: Path) -> None:
    bundle, other = tmp_path / "bundle", tmp_path / "other"
    write_bundle(bundle)
    (bundle / "stages").rename(other)
    (bundle / "stages").symlink_to(other)
    with pytest.raises(IncompatibleBundle, match="symbolic link"):
        check_files(bundle, make_manifest())
