"""What every test may use: a tiny checkpoint and the bundle made of it, once per session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# What a busy machine does slowly is no failure.
settings.register_profile("cleave", deadline=None)
settings.load_profile("cleave")

# Tensors this small are slower on many threads than on one, and tests share the machine. Child processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-class checkpoint of 10 split points, whose answers are long and depend on every input."""
    from tests.kit.checkpoints import tiny_llava

    return tiny_llava(tmp_path_factory.mktemp("checkpoint") / "tiny", layers=2, seed=2)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle. Nobody writes to it: copy it first."""
    from edge_node.preprocess import preprocess
    from partitioner.partition import partition
    from splitmodel.loading import load

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    return partition(load(str(tiny_checkpoint)), folder, preprocess).folder
