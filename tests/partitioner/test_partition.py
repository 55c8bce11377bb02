"""A bundle appears whole or not at all, replaces only bundles, and is the same for the same checkpoint."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_node.preprocess import preprocess
from partitioner.partition import PROMPTS, Wishes, partition
from splitmodel.loading import Checkpoint, load
from splitmodel.media import MediaInput
from splitmodel.probe import read_probe
from tests.kit.shapes import SHAPES, partitioned
from tests.kit.zoo_bundles import partitioned as partitioned_zoo
from wire.bundle_files import check_files
from wire.errors import BadInput
from wire.manifest import MANIFEST_NAME, load_manifest

_ROOT = Path(__file__).parents[2]
# Killed while the codecs are measured: the stages are written, the manifest is not.
_KILLED = """
import os, signal, sys
from pathlib import Path
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.loading import load

def progress(step, done, total):
    if step == "calibrate":
        os.kill(os.getpid(), signal.SIGKILL)

partition(load(sys.argv[1]), Path(sys.argv[2]), preprocess, progress=progress)
"""


@pytest.fixture
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return load(str(tiny_checkpoint))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def failing_at(at: str) -> Callable[[str, int, int], None]:
    def progress(step: str, done: int, total: int) -> None:
        if step == at and done:
            raise RuntimeError("the disk is full")

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_made_bundle_passes_its_own_checks(shape: str) -> None:
    made = partitioned(shape)
    manifest = load_manifest(made.folder / MANIFEST_NAME)
    check_files(made.folder, manifest)
    assert manifest == made.manifest
    assert {entry.path for entry in manifest.files} == contents(made.folder).keys() - {MANIFEST_NAME}
    [chain] = manifest.chains
    traced = made.encoders[chain.chain_id].chain
    assert [point.label for point in chain.split_points] == [point.label for point in traced.split_points]
    assert sum(point.stage_macs for point in chain.split_points) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "chains", "prompts"),
    [
        ("internvl", "generator", ["image/1x3x64x64"], list(PROMPTS)),
        ("clip", "dual encoder", ["image/1x3x64x64", "text/1x32"], [""] * 4),
    ],
)
def test_bundle_has_a_chain_per_modality_and_every_chain_is_probed(
    name: str, shape: str, chains: list[str], prompts: list[str]
) -> None:
    made = partitioned_zoo(name)
    manifest = load_manifest(made.folder / MANIFEST_NAME)
    check_files(made.folder, manifest)
    assert {entry.path for entry in manifest.files} == contents(made.folder).keys() - {MANIFEST_NAME}
    assert manifest.shape == shape
    assert [chain.chain_id for chain in manifest.chains] == list(made.encoders) == chains
    assert [item.prompt for item in manifest.probe.items] == prompts
    probed = {f"{item.modality}/{item.shape_id}" for item in manifest.probe.items}
    assert probed == set(chains)
    is_tiled = [chain.input_shape.is_tiled for chain in manifest.chains]
    assert is_tiled == [name == "internvl", False][: len(chains)]


@pytest.mark.slow
def test_probe_holds_every_split_point_of_every_prompt() -> None:
    made = partitioned("clip, 5 layers, three of them read")
    probe = read_probe(made.folder / made.manifest.probe.path)
    assert [item.prompt for item in made.manifest.probe.items] == list(PROMPTS)
    for index in range(len(PROMPTS)):
        for point in made.manifest.chains[0].split_points:
            shapes = [list(array.shape) for array in probe.features(index, point.index)]
            assert shapes == [tensor.shape for tensor in point.tensors]


@pytest.mark.slow
def test_two_runs_give_the_same_bundle_and_an_older_one_is_replaced(
    checkpoint: Checkpoint, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "bundle"
    shutil.copytree(tiny_bundle, out)
    (out / "stages" / "left-over").touch()
    partition(checkpoint, out, preprocess)
    assert contents(out) == contents(tiny_bundle)
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_failure_in_the_middle_leaves_nothing_and_an_older_bundle_untouched(
    checkpoint: Checkpoint, tiny_bundle: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(tiny_bundle, old)
    for out, step in ((tmp_path / "new", "export"), (old, "calibrate")):
        with pytest.raises(RuntimeError, match="the disk is full"):
            partition(checkpoint, out, preprocess, progress=failing_at(step))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert contents(old) == contents(tiny_bundle)


@pytest.mark.slow
def test_killed_run_leaves_an_older_bundle_untouched_and_at_most_a_hidden_folder(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(tiny_bundle, old)
    command = [sys.executable, "-c", _KILLED, str(tiny_checkpoint), str(old)]
    killed = subprocess.run(command, cwd=_ROOT, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert contents(old) == contents(tiny_bundle)
    assert all(path.name.startswith(".old-") for path in tmp_path.iterdir() if path != old)


@pytest.mark.slow
def test_older_bundle_is_moved_away_in_one_step_before_it_is_deleted(
    checkpoint: Checkpoint, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while files are deleted must not leave half of a bundle in its place."""
    out = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, out)
    deleted: list[Path] = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: deleted.append(Path(path)))
    partition(checkpoint, out, preprocess)
    assert out not in deleted
    check_files(out, load_manifest(out / MANIFEST_NAME))


def test_folder_that_is_no_bundle_is_not_overwritten(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years of it")
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("work", "file", "dangling"):
        with pytest.raises(BadInput, match="exists and is no bundle"):
            partition(checkpoint, tmp_path / name, preprocess)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years of it"


@pytest.mark.parametrize("text", ["{}", '{"manifest_version": 3, "name": "a browser extension"}', "not JSON"])
def test_other_programs_manifest_does_not_make_a_bundle(
    checkpoint: Checkpoint, tmp_path: Path, text: str
) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(BadInput, match="exists and is no bundle"):
        partition(checkpoint, tmp_path, preprocess)
    assert (tmp_path / MANIFEST_NAME).read_text() == text


@pytest.mark.slow
def test_bundle_of_another_format_version_is_replaced(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / MANIFEST_NAME).write_text('{"format_version": 99}')
    made = partition(checkpoint, tmp_path / "bundle", preprocess, Wishes(name="mine"))
    assert (made.manifest.format_version, made.manifest.model) == (2, "mine")


@pytest.mark.slow
def test_empty_working_directory_may_become_the_bundle(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built inside a private folder, it has the permissions of any new folder."""
    (tmp_path / "here").mkdir()
    usual = os.stat(tmp_path / "here").st_mode
    monkeypatch.chdir(tmp_path / "here")
    made = partition(checkpoint, Path(), preprocess)
    assert made.folder == tmp_path / "here"
    assert os.stat(made.folder).st_mode == usual
    check_files(made.folder, made.manifest)


def test_place_that_cannot_be_written_is_refused_in_one_sentence(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=f"cannot write to {tmp_path / 'file'}: .*; give another folder"):
        partition(checkpoint, tmp_path / "file" / "bundle", preprocess)


@pytest.mark.slow
def test_bundle_of_a_model_from_the_hub_is_named_after_its_id(checkpoint: Checkpoint, tmp_path: Path) -> None:
    pictures = [Image.radial_gradient("L").convert("RGB"), Image.linear_gradient("L").convert("RGB")]
    wishes = Wishes(calibration=[MediaInput("image", picture) for picture in pictures])
    made = partition(replace(checkpoint, name="owner/model"), tmp_path / "bundle", preprocess, wishes)
    assert made.manifest.model == "owner/model"
    probe = read_probe(made.folder / made.manifest.probe.path)
    for index, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(probe.media(index, "image")), np.asarray(picture))
