"""`cleave partition` and `cleave verify` as real processes: exit codes, one JSON object, one sentence."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from onnx import numpy_helper

from cleave.cli import main
from cleave.make_bundle import make_bundle
from tests.kit.shapes import checkpoint
from wire.bundle_files import check_files
from wire.errors import BadInput
from wire.manifest import MANIFEST_NAME, dump_manifest, load_manifest

_ROOT = Path(__file__).parents[2]


def cleave(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cleave.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=200, check=False)


def json_object(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Its standard output, which holds one JSON object and nothing else."""
    value = json.loads(run.stdout)
    assert isinstance(value, dict)
    return value


def tamper(bundle: Path, stage: int) -> None:
    """Turns a stage's largest weight round, and lists the file as if it had always been so."""
    manifest = load_manifest(bundle / MANIFEST_NAME)
    path = bundle / manifest.chains[0].stages[stage].path
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = (-numpy_helper.to_array(weight)).tobytes()
    onnx.save(model, path)
    digest = sha256(path.read_bytes()).hexdigest()
    name = manifest.chains[0].stages[stage].path
    files = [
        msgspec.structs.replace(entry, sha256=digest, num_bytes=path.stat().st_size)
        if entry.path == name
        else entry
        for entry in manifest.files
    ]
    (bundle / MANIFEST_NAME).write_bytes(dump_manifest(msgspec.structs.replace(manifest, files=files)))


@pytest.mark.slow
def test_partition_writes_the_bundle_that_the_library_writes(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Another process, the same stages and split points; verified, and told of in one JSON object."""
    out = tmp_path / "bundle"
    run = cleave("partition", tiny_checkpoint, "--out", out, "--json")
    assert (run.returncode, run.stderr) == (0, "")
    told, made, reference = (
        json_object(run),
        load_manifest(out / MANIFEST_NAME),
        load_manifest(tiny_bundle / MANIFEST_NAME),
    )
    check_files(out, made)
    assert told["ok"] is True
    assert told["bundle"] == str(out)
    assert told["shape"] == "generator"
    [chain], [listed] = told["chains"], made.chains
    assert chain["chain"] == listed.chain_id
    assert [point["label"] for point in chain["split_points"]] == [p.label for p in listed.split_points]
    assert len(told["verification"]["splits"]) == len(chain["split_points"])
    assert all(split["num_inputs"] >= 8 for split in told["verification"]["splits"])
    assert made.files == reference.files
    assert made.chains == reference.chains


@pytest.mark.slow
def test_verify_passes_an_honest_bundle(tiny_checkpoint: Path, tiny_bundle: Path) -> None:
    run = cleave("verify", tiny_bundle, "--model", tiny_checkpoint, "--tokens", 4, "--json")
    assert (run.returncode, run.stderr) == (0, "")
    told = json_object(run)
    assert told["ok"] is True
    assert all(split["ok"] and split["num_inputs"] == 8 for split in told["splits"])


@pytest.mark.slow
def test_verify_exits_1_on_a_tampered_stage_and_shows_where(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    tamper(bundle, stage=3)
    run = cleave("verify", bundle, "--model", tiny_checkpoint, "--tokens", 4, "--json")
    assert run.returncode == 1, run.stderr
    told = json_object(run)
    assert told["ok"] is False
    assert [split["ok"] for split in told["splits"][:4]] == [True] * 4
    assert not any(split["ok"] for split in told["splits"][4:])


@pytest.mark.slow
def test_verify_exits_1_for_a_bundle_of_another_model(tiny_bundle: Path) -> None:
    run = cleave("verify", tiny_bundle, "--model", checkpoint("clip, 3 layers, cropped").path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: the bundle in ")
    assert "was made of other weights" in run.stderr
    assert run.stderr.count("\n") == 1


def test_refusal_is_one_json_object_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["cleave", "partition", str(tmp_path), "--out", str(tmp_path / "out"), "--json"]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    output, errors = capsys.readouterr()
    told = json.loads(output)
    assert told["ok"] is False
    assert "without config.json" in told["error"]["message"]
    assert errors == f"error: {told['error']['message']}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["640", "640x", "ax480", "640x480x3", "-640x480"])
def test_size_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no size of pictures; give width x height, such as 640x480"):
        _make(tmp_path, sizes=[text])


def test_calibration_folder_without_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for folder, reason in ((tmp_path, "holds no .png"), (tmp_path / "nowhere", "is no folder")):
        with pytest.raises(BadInput, match=reason):
            _make(tmp_path, calibration=folder)


def _make(out: Path, *, sizes: Sequence[str] = (), calibration: Path | None = None) -> None:
    make_bundle(
        "default", out / "bundle", calibration=calibration, sizes=sizes, name="", verify=False, as_json=True
    )


_BARS = """
from cleave.terminal import progress_bars
with progress_bars() as report:
    report("calibrate", 0, 3)
    report("calibrate", 3, 3)
"""


def test_progress_bars_are_drawn_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", _BARS], cwd=_ROOT, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        drawn = bytearray()
        # The kernel ends reading with an error once the other side has closed.
        while chunk := _read(ours):
            drawn += chunk
    os.close(ours)
    assert process.returncode == 0
    assert b"calibrate" in drawn
    assert b"3/3" in drawn


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_progress_bars_are_silent_elsewhere() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _BARS], cwd=_ROOT, capture_output=True, timeout=60, check=True
    )
    assert (run.stdout, run.stderr) == (b"", b"")
