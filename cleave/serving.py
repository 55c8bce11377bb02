"""`cleave cloud`: a checkpoint and its bundle, made and kept where none is given, become a cloud node."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from cleave.assets import resolve_model
from cleave.terminal import progress_bars
from cloud_node.config import CloudConfig
from cloud_node.server import run
from cloud_node.serving import open_bundle
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.loading import Checkpoint, find_device, find_dtype, load
from wire.manifest import MANIFEST_NAME


def serve_cloud(model: str, bundle: Path | None, **settings: Any) -> None:
    """Runs until SIGTERM; prints the address on a line of its own once it listens."""
    device = find_device(settings.pop("device", "cpu"))
    config = CloudConfig(bundle=bundle or Path(), device=device, **settings)
    dtype = find_dtype(config.dtype)
    if bundle is not None:
        open_bundle(bundle)
    with progress_bars() as progress:
        progress("load", 0, 1)
        checkpoint = load(resolve_model(model), dtype, device)
        progress("load", 1, 1)
        if bundle is None:
            config = replace(config, bundle=_kept_folder(checkpoint))
            if not (config.bundle / MANIFEST_NAME).is_file():
                # The bundle is the device's: in float32, made where every device can compute it.
                partition(load(resolve_model(model)), config.bundle, preprocess, progress=progress)
    run(config, checkpoint, lambda address: print(f"listening on {address}", flush=True))


def _kept_folder(checkpoint: Checkpoint) -> Path:
    """One bundle per weights and versions: another version may cut the same weights elsewhere."""
    cache = Path(os.environ.get("CLEAVE_CACHE") or platformdirs.user_cache_path("cleave"))
    versions = "-".join(metadata.version(package) for package in ("cleave", "torch", "transformers", "onnx"))
    return cache / "made" / f"{checkpoint.weights_digest[:16]}-{versions}"
