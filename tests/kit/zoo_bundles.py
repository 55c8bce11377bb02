"""Models of the zoo as bundles: each made, loaded and partitioned at most once per test run."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from bench.zoo import make
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned, Wishes, partition
from splitmodel.loading import load
from wire.sizes import ImageSize, SoundSize

# Of the models whose processors make another shape of every size.
IMAGE_SIZES = (ImageSize(96, 64), ImageSize(64, 64))
SOUND_SIZES = (SoundSize(16_000, 16_000), SoundSize(48_000, 16_000))

_folder = tempfile.TemporaryDirectory(prefix="cleave-zoo-")


@cache
def checkpoint(name: str) -> Path:
    """Nobody writes to it."""
    return make(name, Path(_folder.name) / name / "checkpoint")


@cache
def partitioned(name: str) -> Partitioned:
    """Nobody writes to its folder: copy it first."""
    wishes = Wishes(name=name, sizes=(*IMAGE_SIZES, *SOUND_SIZES))
    return partition(load(str(checkpoint(name))), Path(_folder.name) / name / "bundle", preprocess, wishes)
