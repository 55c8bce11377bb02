"""Bundles for tests of the cloud: the model's own processor stands in for the device's preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from partitioner.partition import Partitioned, Wishes, partition
from partitioner.samples import made_samples
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.loading import Checkpoint
from splitmodel.media import Media
from splitmodel.tensors import to_numpy
from wire.modality import Modality
from wire.sizes import Size


def bundle_of(checkpoint: Checkpoint, folder: Path, sizes: Sequence[Size] = ()) -> Partitioned:
    """Writes a checkpoint's bundle, without the edge."""
    return partition(checkpoint, folder, OwnPreprocessing(adapter_for(checkpoint)), Wishes(sizes=sizes))


class OwnPreprocessing:
    """What the model's own processor makes, whatever the recipe says."""

    def __init__(self, adapter: Adapter) -> None:
        rate_hz = adapter.processing.rate_hz
        self._adapter = adapter
        self._axes = {m: adapter.tile_axis(m, made_samples(m, 6, rate_hz)) for m in adapter.modalities}

    def __call__(self, recipe: Any, media: Media, folder: Path) -> list[NDArray[np.generic]]:
        modality = modality_of(media)
        axis = self._axes[modality]
        tiles = self._adapter.encoder_input(modality, media).tiles(axis)
        columns = zip(*(tile.content.values() for tile in tiles), strict=True)
        return [to_numpy(column[0] if axis is None else torch.stack(column)) for column in columns]


def modality_of(media: Media) -> Modality:
    if isinstance(media, Image.Image):
        return "image"
    return "text" if isinstance(media, str) else "audio"
