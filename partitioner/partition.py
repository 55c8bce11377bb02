"""Partitioning: a checkpoint becomes a bundle. Trace, cut, check, export, calibrate, probe, write."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from PIL import Image
from torch import Tensor

from partitioner.calibrate import calibrate
from partitioner.checks import Preprocess, check_one_shape, check_preprocessing, check_prompts
from partitioner.export import export_stages
from partitioner.pictures import made_pictures
from partitioner.plan import default_arm
from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.loading import Checkpoint
from splitmodel.probe import make_probe, write_probe
from wire.errors import BadInput, CleaveError, IncompatibleBundle
from wire.manifest import (
    MANIFEST_NAME,
    Chain,
    CodecEntry,
    FileEntry,
    InputShape,
    Manifest,
    Probe,
    SplitPoint,
    Stage,
    TensorEntry,
    dump_manifest,
    load_manifest,
)
from wire.preprocessing import ImagePreprocessing

PROMPTS = ("What is this?", "How many things are there, and where?")
# Relative L2 error of a tail's output and of the first logits that another device, kernel or version may have.
PROBE_TOLERANCE = 1e-3
NUM_CALIBRATION_PICTURES = 4
_PROBE_PATH = "probe/probe.safetensors"

Progress = Callable[[str, int, int], None]  # step, done, in all


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A bundle on disk and what it was made of."""

    folder: Path
    manifest: Manifest
    adapter: GeneratorWithEncoders
    encoder: Encoder


def partition(
    checkpoint: Checkpoint,
    out: Path,
    preprocess: Preprocess,
    *,
    name: str = "",
    calibration: Sequence[Image.Image] = (),
    progress: Progress = lambda step, done, total: None,
) -> Partitioned:
    """Writes a bundle to `out`, which appears whole or not at all; an older bundle there is replaced.

    `preprocess` is the device's preprocessing; `calibration` are pictures like those to be asked about (made
    ones by default). Raises BadInput where the model cannot be split, or `out` is something else.
    """
    out = Path(os.path.abspath(out))
    _require_replaceable(out)
    progress("trace", 0, 1)
    adapter = GeneratorWithEncoders(checkpoint)
    pictures = made_pictures(6)
    check_one_shape(adapter, pictures)
    recipe = adapter.processing.recipe()
    check_preprocessing(adapter, recipe, preprocess, pictures)
    check_prompts(adapter.processing, pictures, PROMPTS[0])
    encoder = adapter.trace_encoder(pictures[1])
    progress("trace", 1, 1)
    samples = [*calibration] or made_pictures(NUM_CALIBRATION_PICTURES + 1, seed=100)[1:]
    with _work_folder(out) as folder:
        work = folder / "bundle"
        manifest = _write(work, checkpoint, name, adapter, encoder, recipe, samples, progress)
        if out.exists():
            # Moved in one step: whoever kills this between the two finds no bundle, and never half of one.
            out.rename(folder / "replaced")
        work.rename(out)
    return Partitioned(out, manifest, adapter, encoder)


@contextlib.contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, removed at the end; raises BadInput where none can be made."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-")
    except OSError as error:
        raise BadInput(f"cannot write to {out.parent}: {error.strerror}; give another folder") from error
    with folder as path:
        yield Path(path)


def _write(
    folder: Path,
    checkpoint: Checkpoint,
    name: str,
    adapter: GeneratorWithEncoders,
    encoder: Encoder,
    recipe: ImagePreprocessing,
    samples: Sequence[Image.Image],
    progress: Progress,
) -> Manifest:
    inputs = [adapter.input_tensors(sample) for sample in samples]
    stages = _write_stages(folder, adapter.modality, encoder, inputs[0], progress)
    (folder / _PROBE_PATH).parent.mkdir(parents=True)
    write_probe(folder / _PROBE_PATH, make_probe(adapter, encoder, samples[: len(PROMPTS)], PROMPTS))
    num_points = encoder.chain.num_stages + 1
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress("calibrate", done, num_points)

    entries = calibrate(encoder.chain, inputs, advance)
    chain = _chain_entry(adapter, encoder, inputs[0], stages, entries)
    manifest = Manifest(
        format_version=1,
        model=name or checkpoint.short_name,
        architecture=type(checkpoint.model).__name__,
        weights_digest=checkpoint.weights_digest,
        preprocessing_digest=recipe.digest(),
        preprocessing=recipe,
        chains=[chain],
        default_arm=default_arm(chain),
        probe=Probe(path=_PROBE_PATH, prompts=list(PROMPTS), tolerance=PROBE_TOLERANCE),
        files=_file_entries(folder),
        made_with={
            package: metadata.version(package) for package in ("cleave", "torch", "transformers", "onnx")
        },
    )
    (folder / MANIFEST_NAME).write_bytes(dump_manifest(manifest))
    return manifest


def _write_stages(
    folder: Path, modality: str, encoder: Encoder, example: Sequence[Tensor], progress: Progress
) -> list[Stage]:
    (folder / "stages" / modality).mkdir(parents=True)
    total, stages = encoder.chain.num_stages, []
    progress("export", 0, total)
    for index, model in enumerate(export_stages(encoder.chain, example)):
        path = f"stages/{modality}/{index:03}.onnx"
        (folder / path).write_bytes(model)
        stages.append(Stage(index=index, path=path))
        progress("export", index + 1, total)
    return stages


def _chain_entry(
    adapter: GeneratorWithEncoders,
    encoder: Encoder,
    example: Sequence[Tensor],
    stages: list[Stage],
    entries: list[CodecEntry],
) -> Chain:
    points = encoder.chain.split_points
    macs = [0, *encoder.chain.stage_macs(example)]
    return Chain(
        modality="image",
        input_shape=InputShape(
            shape_id="x".join(map(str, points[0].tensors[0].shape)),
            width=None,
            height=None,
            tensor=TensorEntry.of(points[0].tensors[0]),
        ),
        split_points=[
            SplitPoint(
                index=point.index,
                label=point.label,
                tensors=[TensorEntry.of(spec) for spec in point.tensors],
                raw_bytes=point.num_bytes,
                stage_macs=macs[point.index],
            )
            for point in points
        ],
        stages=stages,
        codecs=entries,
    )


def _file_entries(folder: Path) -> list[FileEntry]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        FileEntry(
            path=path.relative_to(folder).as_posix(),
            num_bytes=path.stat().st_size,
            sha256=sha256(path.read_bytes()).hexdigest(),
        )
        for path in files
    ]


def _require_replaceable(out: Path) -> None:
    if os.path.lexists(out) and not _is_bundle(out) and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput(f"{out} exists and is no bundle; give a new folder, or remove it first")


def _is_bundle(folder: Path) -> bool:
    """Whether its manifest.json is ours; other programs have files of that name, too."""
    try:
        load_manifest(folder / MANIFEST_NAME)
    except IncompatibleBundle:  # a bundle of another version
        return True
    except CleaveError:
        return False
    return True
