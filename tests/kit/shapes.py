"""LLaVA-class models of several sizes and depths, each made, loaded and partitioned at most once per test run."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned, partition
from splitmodel.loading import Checkpoint, load
from tests.kit.checkpoints import tiny_llava

SHAPES: dict[str, dict[str, Any]] = {
    "clip, 2 layers": {"layers": 2, "width": 16, "image_size": 32, "patch_size": 8},
    "clip, 3 layers, cropped": {"layers": 3, "width": 32, "crop": True, "seed": 1},
    "clip, 5 layers, three of them read": {"layers": 5, "width": 16, "feature_layers": [-2, -4, 1], "seed": 2},
    "siglip, 4 layers": {"layers": 4, "width": 24, "patch_size": 12, "vision": "siglip", "seed": 3},
    "siglip, 6 layers": {"layers": 6, "width": 32, "patch_size": 24, "vision": "siglip", "seed": 4},
}  # fmt: skip

_folder = tempfile.TemporaryDirectory(prefix="cleave-tests-")


@cache
def checkpoint(shape: str) -> Checkpoint:
    """Nobody changes its weights: load it again for that."""
    return load(str(tiny_llava(_path(shape) / "checkpoint", **SHAPES[shape])))


@cache
def partitioned(shape: str) -> Partitioned:
    """Nobody writes to its folder: copy it first."""
    return partition(checkpoint(shape), _path(shape) / "bundle", preprocess)


def _path(shape: str) -> Path:
    return Path(_folder.name) / f"{list(SHAPES).index(shape)}"
