"""The probe: a few pictures with their features at every split point and the first logits they led to.

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

from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.tensors import to_numpy
from wire.errors import IncompatibleBundle


@dataclass(frozen=True, slots=True)
class ProbeData:
    """Tensors by name: `picture/I` [height, width, 3] uint8, `features/I/K/J`, `logits/I` [vocabulary] float32."""

    tensors: dict[str, Tensor]

    def example(self) -> Image.Image:
        """The first picture."""
        return Image.fromarray(self._tensor("picture/0").numpy())

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of a picture, pixels."""
        height, width, _ = self._tensor(f"picture/{index}").shape
        return width, height

    def features(self, index: int, split_point: int) -> list[NDArray[np.generic]]:
        """A picture's tensors at a split point, in the boundary's order."""
        prefix = f"features/{index}/{split_point}/"
        count = max(1, sum(name.startswith(prefix) for name in self.tensors))
        return [to_numpy(self._tensor(f"{prefix}{position}")) for position in range(count)]

    def logits(self, index: int) -> Tensor:
        """The logits of a picture's first token, [vocabulary] float32."""
        return self._tensor(f"logits/{index}")

    def _tensor(self, name: str) -> Tensor:
        """Raises IncompatibleBundle where the file has none of that name."""
        if name not in self.tensors:
            raise IncompatibleBundle(f"the probe holds no {name}; make the bundle again")
        return self.tensors[name]


def make_probe(
    adapter: GeneratorWithEncoders, encoder: Encoder, pictures: Sequence[Image.Image], prompts: Sequence[str]
) -> ProbeData:
    """Runs the whole chain on each picture and notes what crosses every split point."""
    tensors: dict[str, Tensor] = {}
    for index, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        tensors[f"picture/{index}"] = torch.from_numpy(np.array(picture.convert("RGB")))
        values = adapter.input_tensors(picture)
        for split_point in range(encoder.chain.num_stages + 1):
            for position, value in enumerate(values):
                tensors[f"features/{index}/{split_point}/{position}"] = value.cpu().clone().contiguous()
            if split_point < encoder.chain.num_stages:
                values = encoder.chain.run(values, split_point, split_point + 1)
        logits = first_logits(adapter, encoder, values, prompt, picture.width, picture.height)
        tensors[f"logits/{index}"] = logits.cpu().clone()
    return ProbeData(tensors)


@torch.no_grad()
def first_logits(
    adapter: GeneratorWithEncoders,
    encoder: Encoder,
    features: Sequence[Tensor],
    prompt: str,
    width: int,
    height: int,
) -> Tensor:
    """Logits of the first token, [vocabulary] float32, from the chain's last tensors."""
    inputs = adapter.split_inputs(encoder, features, prompt, width, height)
    logits: Tensor = adapter.model(**inputs).logits
    return logits[0, -1].float().cpu()


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
