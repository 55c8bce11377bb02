"""`cleave cloud`: checkpoints and their bundles, made and kept where none is given, become a cloud node."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from cleave.assets import resolve_model
from cleave.terminal import progress_bars
from cloud_node.access.entrance import Entrance
from cloud_node.caching.redis_settings import parse_redis_url
from cloud_node.config import CloudConfig
from cloud_node.model.serving import open_bundle
from cloud_node.server import Source, run
from cloud_node.streams.rollout import Rollout, RolloutConfig
from cloud_node.telemetry.outside import Outside
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.loading import Checkpoint, find_device, find_dtype, load
from wire.errors import BadInput
from wire.manifest import FORMAT_VERSION, MANIFEST_NAME


def serve_cloud(
    models: Sequence[str],
    bundles: Sequence[Path] = (),
    names: Sequence[str] = (),
    otlp: str | None = None,
    **settings: Any,
) -> None:
    """Runs until SIGTERM; prints the address on a line of its own once it listens.

    Bundles and names go with the models in their order; without bundles, each is made and kept. Traces go to `otlp`.
    """
    for what, given in (("--bundle", bundles), ("--name", names)):
        if given and len(given) != len(models):
            raise BadInput(
                f"there are {len(models)} models and {len(given)} {what}; give one per model, or none"
            )
    device = find_device(settings.pop("device", "cpu"))
    redis_url = settings.pop("redis_url", "")
    redis = parse_redis_url(redis_url) if redis_url else None
    rollout = RolloutConfig(settings.pop("rollout", None), settings.pop("rollout_file", None))
    Rollout(rollout)  # what is wrong in its file is said before anything is loaded
    config = CloudConfig(device=device, redis=redis, rollout=rollout, **settings)
    with _seen(config, otlp) as outside:
        sources = _load(config, models, bundles, names)
        run(config, sources, lambda address: print(f"listening on {address}", flush=True), outside)


@contextlib.contextmanager
def _seen(config: CloudConfig, otlp: str | None) -> Iterator[Outside]:
    """From before the models load to after the last request."""
    with contextlib.ExitStack() as stack:
        outside = Outside()
        if otlp:
            from cleave.otlp import otlp_traces

            outside.spans = stack.enter_context(otlp_traces(otlp, "cleave-cloud"))
        stack.callback(outside.close)
        outside.listen(config.metrics_listen)
        yield outside


def _load(
    config: CloudConfig, models: Sequence[str], bundles: Sequence[Path], names: Sequence[str]
) -> list[Source]:
    dtype = find_dtype(config.dtype)
    Entrance(config.identity)  # says what it cannot use before a model is loaded
    for bundle in bundles:
        open_bundle(bundle)
    sources: list[Source] = []
    loaded: dict[str, Checkpoint] = {}  # once, where several bundles are of the same weights
    with progress_bars() as progress:
        for index, model in enumerate(models):
            progress("load", index, len(models))
            path = resolve_model(model)
            checkpoint = loaded[path] if path in loaded else load(path, dtype, config.device)
            loaded[path] = checkpoint
            progress("load", index + 1, len(models))
            folder = bundles[index] if bundles else _kept_folder(checkpoint)
            if not bundles and not (folder / MANIFEST_NAME).is_file():
                # The bundle is the device's: in float32, made where every device can compute it.
                partition(load(resolve_model(model)), folder, preprocess, progress=progress)
            sources.append(Source(checkpoint, folder, names[index] if names else ""))
    return sources


def _kept_folder(checkpoint: Checkpoint) -> Path:
    """One bundle per weights and versions: another version may cut elsewhere, or write it otherwise."""
    cache = Path(os.environ.get("CLEAVE_CACHE") or platformdirs.user_cache_path("cleave"))
    versions = "-".join(metadata.version(package) for package in ("cleave", "torch", "transformers", "onnx"))
    return cache / "made" / f"{checkpoint.weights_digest[:16]}-{versions}-{FORMAT_VERSION}"
