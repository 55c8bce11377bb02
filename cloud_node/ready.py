"""A model that can be asked: its bundle, what runs it, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud_node.asked.served import Served
from cloud_node.engine.batch import Runner


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """`bundle` is the folder that devices fetch it from."""

    served: Served
    runner: Runner
    bundle: Path
    device: str = ""
    dtype: str = ""
