"""`cleave cloud`: checkpoints and their bundles, made and kept where none is given, become a cloud node."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from cleave.assets import resolve_model
from cleave.terminal import progress_bars
from cloud_node.config import CloudConfig
from cloud_node.redis_settings import parse_redis_url
from cloud_node.server import Source, run
from cloud_node.serving import open_bundle
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.loading import Checkpoint, find_device, find_dtype, load
from wire.errors import BadInput
from wire.manifest import FORMAT_VERSION, MANIFEST_NAME


def serve_cloud(
    models: Sequence[str], bundles: Sequence[Path] = (), names: Sequence[str] = (), **settings: Any
) -> None:
    """Runs until SIGTERM; prints the address on a line of its own once it listens.

    Bundles and names go with the models in their order; without bundles, each is made and kept.
    """
    for what, given in (("--bundle", bundles), ("--name", names)):
        if given and len(given) != len(models):
            raise BadInput(
                f"there are {len(models)} models and {len(given)} {what}; give one per model, or none"
            )
    device = find_device(settings.pop("device", "cpu"))
    redis_url = settings.pop("redis_url", "")
    redis = parse_redis_url(redis_url) if redis_url else None
    config = CloudConfig(device=device, redis=redis, **settings)
    dtype = find_dtype(config.dtype)
    for bundle in bundles:
        open_bundle(bundle)
    sources: list[Source] = []
    with progress_bars() as progress:
        for index, model in enumerate(models):
            progress("load", index, len(models))
            checkpoint = load(resolve_model(model), dtype, device)
            progress("load", index + 1, len(models))
            folder = bundles[index] if bundles else _kept_folder(checkpoint)
            if not bundles and not (folder / MANIFEST_NAME).is_file():
                # The bundle is the device's: in float32, made where every device can compute it.
                partition(load(resolve_model(model)), folder, preprocess, progress=progress)
            sources.append(Source(checkpoint, folder, names[index] if names else ""))
    run(config, sources, lambda address: print(f"listening on {address}", flush=True))


def _kept_folder(checkpoint: Checkpoint) -> Path:
    """One bundle per weights and versions: another version may cut elsewhere, or write it otherwise."""
    cache = Path(os.environ.get("CLEAVE_CACHE") or platformdirs.user_cache_path("cleave"))
    versions = "-".join(metadata.version(package) for package in ("cleave", "torch", "transformers", "onnx"))
    return cache / "made" / f"{checkpoint.weights_digest[:16]}-{versions}-{FORMAT_VERSION}"
