"""From a checkpoint and a bundle to a model that is served: digests compared, every split point probed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch

from cloud_node.prepare import Preparer
from cloud_node.request import Served
from cloud_node.runner import ModelRunner, Room
from cloud_node.warm_up import compile_steps
from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.loading import Checkpoint
from splitmodel.probe import ProbeData, first_logits, read_probe
from splitmodel.tensors import from_numpy, relative_error
from wire.errors import IncompatibleBundle
from wire.manifest import Manifest, bundle_digest, check_files, load_manifest
from wire.tensors import TensorSpec

_log = logging.getLogger(__name__)

# The probe was made in float32. What half precision may miss it by: several times what was seen, and far less than
# what other weights miss it by.
_DTYPE_TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.02}


def open_bundle(folder: Path) -> tuple[Manifest, str]:
    """A bundle's manifest and digest, after checking every file; raises a CleaveError where one is off."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise IncompatibleBundle(
            f"{folder} holds no manifest.json; make a bundle with `cleave partition MODEL --out DIR`"
        )
    manifest = load_manifest(path)
    check_files(folder, manifest)
    return manifest, bundle_digest(path.read_bytes())


def serve(
    checkpoint: Checkpoint, folder: Path, name: str = "", room: Room | None = None
) -> tuple[Served, ModelRunner]:
    """The model as served; raises IncompatibleBundle where the bundle was made of other weights."""
    manifest, digest = open_bundle(folder)
    adapter = GeneratorWithEncoders(checkpoint)
    _require_made_of(manifest, adapter, folder)
    room = room or Room()
    probe = read_probe(folder / manifest.probe.path)
    encoder = adapter.trace_encoder(probe.example())
    _check_boundaries(manifest, encoder)
    boundaries = [[entry.spec() for entry in point.tensors] for point in manifest.chains[0].split_points]
    example = adapter.input_tensors(probe.example())
    preparer = Preparer(adapter, encoder, boundaries, example, room.row_tokens(checkpoint.model))
    served = Served(
        name or manifest.model,
        manifest,
        digest,
        refused=_probe(manifest, probe, preparer),
        samples_by_default=bool(checkpoint.model.generation_config.do_sample),
        defaults_digest=_defaults_digest(checkpoint),
        tail_batching=preparer.tails.batching,
    )
    runner = ModelRunner(preparer, room)
    _say(served, runner)
    if room.compiled:
        compile_steps(runner, probe, manifest.probe.prompts[0])
    return served, runner


def _require_made_of(manifest: Manifest, adapter: GeneratorWithEncoders, folder: Path) -> None:
    checkpoint = adapter.checkpoint
    if manifest.weights_digest != checkpoint.weights_digest:
        raise IncompatibleBundle(
            f"the bundle in {folder} was made of other weights ({manifest.model}, {manifest.weights_digest[:12]}) "
            f"than {checkpoint.name} ({checkpoint.weights_digest[:12]}); make it again with `cleave partition`"
        )
    if adapter.processing.recipe().digest() != manifest.preprocessing_digest:
        raise IncompatibleBundle(
            f"the bundle in {folder} preprocesses pictures in another way than {checkpoint.name} does; make it "
            "again with `cleave partition`"
        )


def _say(served: Served, runner: ModelRunner) -> None:
    for index, reason in served.refused.items():
        _log.warning("split point %d is not served: %s", index, reason)
    _log.info(
        "%s on %s in %s: %d slots of %s tokens take %.1f MB; tails of several requests: %s",
        served.name,
        runner.device,
        str(runner.kv.dtype).removeprefix("torch."),
        runner.kv.num_slots,
        f"{runner.kv.num_tokens:,}",
        runner.kv.num_bytes / 1e6,
        served.tail_batching,
    )


def _defaults_digest(checkpoint: Checkpoint) -> str:
    """Of all that an answer depends on beside weights, features and settings: a cache may outlive this process."""
    defaults = checkpoint.model.generation_config.to_json_string(use_diff=False)
    template = str(checkpoint.processor.chat_template)
    return sha256(f"{defaults}\0{template}\0{checkpoint.model.dtype}".encode()).hexdigest()


def _check_boundaries(manifest: Manifest, encoder: Encoder) -> None:
    here = [(point.label, _shapes(point.tensors)) for point in encoder.chain.split_points]
    there = [
        (point.label, _shapes([entry.spec() for entry in point.tensors]))
        for point in manifest.chains[0].split_points
    ]
    if here != there:
        differing = next(
            (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
            min(len(here), len(there)),
        )
        raise IncompatibleBundle(
            f"this cloud cuts the model into {len(here)} split points and the bundle into {len(there)}, first "
            f"different at {differing}; make the bundle again with the versions installed here"
        )


def _shapes(specs: Sequence[TensorSpec]) -> list[tuple[object, ...]]:
    """What has to agree: the cloud may compute in another dtype than the edge, but not take a float for an integer."""
    return [(spec.name, spec.shape, "float" if spec.dtype.is_float else spec.dtype) for spec in specs]


def _probe(manifest: Manifest, probe: ProbeData, preparer: Preparer) -> dict[int, str]:
    """Split points whose tail, run here on the bundle's features, misses the bundle's results."""
    refused: dict[int, str] = {}
    allowed = max(manifest.probe.tolerance, _DTYPE_TOLERANCE.get(preparer.adapter.model.dtype, 0.0))
    for point in manifest.chains[0].split_points:
        error = max(
            _probe_error(preparer, probe, index, point.index, prompt)
            for index, prompt in enumerate(manifest.probe.prompts)
        )
        if not error <= allowed:
            refused[point.index] = f"its tail misses the probe by {error:.3g}, and {allowed:.3g} is allowed"
    return refused


def _probe_error(preparer: Preparer, probe: ProbeData, index: int, split_point: int, prompt: str) -> float:
    """Relative L2 error at the tail's output or at the first logits, whichever is larger."""
    chain = preparer.encoder.chain
    features = preparer.tail(probe.features(index, split_point), split_point)
    arrays = probe.features(index, chain.num_stages)
    expected = [from_numpy(a, spec) for a, spec in zip(arrays, preparer.boundaries[-1], strict=True)]
    width, height = probe.size(index)
    logits = first_logits(preparer.adapter, preparer.encoder, features, prompt, width, height)
    at_end = relative_error([tensor.cpu() for tensor in features], expected)
    return max(at_end, relative_error([logits], [probe.logits(index)]))
