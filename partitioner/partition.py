"""Partitioning: a checkpoint becomes a bundle. Trace, cut, check, export, calibrate, probe, write."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from partitioner.chain_writer import ChainWriter, Progress
from partitioner.checks import Preprocess
from partitioner.files import file_entries
from partitioner.samples import fitted, made_samples
from partitioner.shapes import trace_encoders
from partitioner.shared_weights import share_between
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoder
from splitmodel.loading import Checkpoint
from splitmodel.media import Media, MediaInput
from splitmodel.probe import ProbeInput, make_probe, write_probe
from wire.errors import BadInput, CleaveError, IncompatibleBundle
from wire.manifest import MANIFEST_NAME, Manifest, Probe, ProbeItem, dump_manifest, load_manifest
from wire.modality import Modality
from wire.sizes import Size

PROMPTS = ("What is this?", "How many things are there, and where?")
# Relative L2 error of a tail's output and of the first logits that another device, kernel or version may have.
PROBE_TOLERANCE = 1e-3
NUM_TRACE_SAMPLES = 6
NUM_CALIBRATION_SAMPLES = 4
_PROBE_PATH = "probe/probe.safetensors"


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A bundle on disk and what it was made of; encoders are by chain id."""

    folder: Path
    manifest: Manifest
    adapter: Adapter
    encoders: Mapping[str, Encoder]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What may be said of a bundle beside its model: a name, inputs like those to be asked about, sizes to list."""

    name: str = ""
    calibration: Sequence[MediaInput] = ()
    sizes: Sequence[Size] = field(default=())

    def samples(self, adapter: Adapter, modality: Modality) -> list[Media]:
        """Those to calibrate with; made ones where none are given."""
        given = [one.media for one in self.calibration if one.modality == modality]
        return given or made_samples(adapter, modality, NUM_CALIBRATION_SAMPLES + 1, seed=100)[1:]


def partition(
    checkpoint: Checkpoint,
    out: Path,
    preprocess: Preprocess,
    wishes: Wishes | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Partitioned:
    """Writes a bundle to `out`, which appears whole or not at all; an older bundle there is replaced.

    `preprocess` is the device's preprocessing. Raises BadInput where the model cannot be split, or `out` is
    something else.
    """
    out = Path(os.path.abspath(out))
    _require_replaceable(out)
    wishes = wishes or Wishes()
    progress("trace", 0, 1)
    adapter = adapter_for(checkpoint)
    traced = {
        modality: trace_encoders(adapter, modality, _trace_samples(adapter, modality), wishes.sizes)
        for modality in adapter.modalities
    }
    encoders = [encoder for listed in traced.values() for encoder in listed]
    progress("trace", 1, 1)
    with _work_folder(out) as folder:
        work = folder / "bundle"
        work.mkdir()
        manifest = _write(work, adapter, encoders, preprocess, wishes, progress)
        if out.exists():
            # Moved in one step: whoever kills this between the two finds no bundle, and never half of one.
            out.rename(folder / "replaced")
        work.rename(out)
    by_id = dict(zip((chain.chain_id for chain in manifest.chains), encoders, strict=True))
    return Partitioned(out, manifest, adapter, by_id)


def _trace_samples(adapter: Adapter, modality: Modality) -> list[Media]:
    return made_samples(adapter, modality, NUM_TRACE_SAMPLES)


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
    adapter: Adapter,
    encoders: Sequence[Encoder],
    preprocess: Preprocess,
    wishes: Wishes,
    progress: Progress,
) -> Manifest:
    checkpoint = adapter.checkpoint
    writer = ChainWriter(folder, adapter, preprocess, progress, len(encoders))
    chains, probed = [], []
    for encoder in encoders:
        samples = [fitted(media, encoder.size) for media in wishes.samples(adapter, encoder.modality)]
        examples = [fitted(media, encoder.size) for media in _trace_samples(adapter, encoder.modality)]
        chains.append(writer.write(encoder, examples, samples, PROMPTS[0]))
        probed += [
            ProbeInput(encoder, media, prompt if adapter.processing.takes_prompt else "")
            for media, prompt in zip(samples, PROMPTS, strict=False)
        ]
    chains = share_between(folder, chains)
    probe = _write_probe(folder, adapter, probed)
    manifest = Manifest(
        format_version=2,
        model=wishes.name or checkpoint.short_name,
        architecture=type(checkpoint.model).__name__,
        shape=adapter.shape,
        weights_digest=checkpoint.weights_digest,
        chains=chains,
        probe=probe,
        files=file_entries(folder),
        made_with={
            package: metadata.version(package) for package in ("cleave", "torch", "transformers", "onnx")
        },
    )
    (folder / MANIFEST_NAME).write_bytes(dump_manifest(manifest))
    return manifest


def _write_probe(folder: Path, adapter: Adapter, probed: Sequence[ProbeInput]) -> Probe:
    (folder / _PROBE_PATH).parent.mkdir(parents=True)
    write_probe(folder / _PROBE_PATH, make_probe(adapter, probed))
    items = [ProbeItem(one.encoder.modality, one.encoder.shape_id, one.prompt) for one in probed]
    return Probe(path=_PROBE_PATH, items=items, tolerance=PROBE_TOLERANCE)


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
