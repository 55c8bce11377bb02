"""A training run on disk, from which it goes on; and the average of its weights, which is what is exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

CHECKPOINT = "checkpoint.pt"


def save_run(folder: Path, parts: Mapping[str, Any], done: int, shape: Mapping[str, Any]) -> None:
    """Whole or not at all: the state of every part, the steps that are done, and the model's shape."""
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"done": done, "shape": dict(shape)}
    torch.save(state, folder / f"{CHECKPOINT}.part")
    (folder / f"{CHECKPOINT}.part").replace(folder / CHECKPOINT)


def restore_run(folder: Path, parts: Mapping[str, Any], device: Any = "cpu") -> int | None:
    """Loads every part; the steps that are done, None where there is no checkpoint."""
    if not (folder / CHECKPOINT).is_file():
        return None
    state = torch.load(folder / CHECKPOINT, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["done"])


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, keep: float, done: int) -> None:
    """The average keeps that share of itself, less in the beginning."""
    keep = min(keep, done / (done + 10))
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)
