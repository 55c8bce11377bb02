"""The probe: a few inputs with their features at every split point and what they led to.

Whoever runs a tail checks it against the probe, whatever device, dtype or attention kernel it runs with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from splitmodel.adapters.base import Adapter
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.encoder import Encoded, Encoder
from splitmodel.media import Media, size_of
from splitmodel.own_loop import OwnLoop
from splitmodel.tensors import to_numpy
from wire.errors import IncompatibleBundle
from wire.modality import Modality


@dataclass(frozen=True, slots=True)
class ProbeData:
    """Tensors by name: `media/I`, `features/I/K/J` (of a tiled chain with the tiles first), `result/I` float32.

    A picture is [height, width, 3] uint8, a sound [samples] float32, a text its UTF-8 bytes.
    """

    tensors: dict[str, Tensor]

    def media(self, index: int, modality: Modality) -> Media:
        """What went into the encoder."""
        values = self._tensor(f"media/{index}").numpy()
        if modality == "image":
            return Image.fromarray(values)
        return values if modality == "audio" else values.tobytes().decode()

    def features(self, index: int, split_point: int) -> list[NDArray[np.generic]]:
        """An input's tensors at a split point, in the boundary's order."""
        prefix = f"features/{index}/{split_point}/"
        count = max(1, sum(name.startswith(prefix) for name in self.tensors))
        return [to_numpy(self._tensor(f"{prefix}{position}")) for position in range(count)]

    def result(self, index: int) -> Tensor:
        """The logits of an input's first token, or its embedding: [n] float32."""
        return self._tensor(f"result/{index}")

    def _tensor(self, name: str) -> Tensor:
        """Raises IncompatibleBundle where the file has none of that name."""
        if name not in self.tensors:
            raise IncompatibleBundle(f"the probe holds no {name}; make the bundle again")
        return self.tensors[name]


@dataclass(frozen=True, slots=True, eq=False)
class ProbeInput:
    """One input for the probe; the prompt is empty where the model takes none."""

    encoder: Encoder
    media: Media
    prompt: str


def make_probe(adapter: Adapter, inputs: Sequence[ProbeInput]) -> ProbeData:
    """Runs the whole chain on each input and notes what crosses every split point."""
    tensors: dict[str, Tensor] = {}
    for index, one in enumerate(inputs):
        chain = one.encoder.chain
        tensors[f"media/{index}"] = torch.from_numpy(_as_array(one.media))
        tiles = adapter.boundary_input(one.encoder, one.media)
        for split_point in range(chain.num_stages + 1):
            for position, column in enumerate(zip(*tiles, strict=True)):
                value = column[0] if one.encoder.tile_axis is None else torch.stack(column)
                tensors[f"features/{index}/{split_point}/{position}"] = value.cpu().clone().contiguous()
            if split_point < chain.num_stages:
                tiles = [chain.run(tile, split_point, split_point + 1) for tile in tiles]
        encoded = Encoded(one.encoder, tiles, size_of(one.media, adapter.processing.rate_hz))
        tensors[f"result/{index}"] = first_result(adapter, encoded, one.prompt).cpu().clone()
    return ProbeData(tensors)


def first_result(adapter: Adapter, encoded: Encoded, prompt: str) -> Tensor:
    """Logits of the first token, [vocabulary], or the embedding, [dim]; float32."""
    if isinstance(adapter, DualEncoder):
        return adapter.embedding(encoded).cpu()
    loop = OwnLoop(adapter.split([encoded], prompt), {"max_new_tokens": 1, "do_sample": False})
    return loop.read()[0].cpu()


def write_probe(path: Path, probe: ProbeData) -> None:
    save_file(probe.tensors, path)


def read_probe(path: Path) -> ProbeData:
    """Raises IncompatibleBundle where the file is no safetensors file."""
    try:
        return ProbeData(load_file(path))
    except (OSError, SafetensorError) as error:
        raise IncompatibleBundle(
            f"the probe {path} does not load ({error}); make the bundle again"
        ) from error


def _as_array(media: Media) -> NDArray[np.generic]:
    if isinstance(media, Image.Image):
        return np.array(media.convert("RGB"))
    return np.frombuffer(media.encode(), np.uint8).copy() if isinstance(media, str) else media
