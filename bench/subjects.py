"""What is measured: a checkpoint with its bundle, on disk, and the torch threads that it is given everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.random_model import make_random_model
from cleave.assets import resolve_model
from edge_node.preprocess import preprocess
from partitioner.partition import Wishes, partition
from splitmodel.loading import load

SubjectName = Literal["default", "100M"]
# The default model is too small to gain from a second thread; 100 M parameters are not.
NUM_THREADS: dict[SubjectName, int] = {"default": 1, "100M": 2}


@dataclass(frozen=True, slots=True)
class Subject:
    """One model, ready to be served."""

    name: SubjectName
    checkpoint: Path
    bundle: Path
    num_threads: int


def make_subject(name: SubjectName, folder: Path, seed: int = 0) -> Subject:
    """Makes the bundle, and for the random model its checkpoint, inside `folder`."""
    default = Path(resolve_model("default"))
    checkpoint = default if name == "default" else make_random_model(default, folder / name, seed)
    bundle = folder / f"{name}-bundle"
    partition(load(str(checkpoint)), bundle, preprocess, Wishes(name=name))
    return Subject(name, checkpoint, bundle, NUM_THREADS[name])
