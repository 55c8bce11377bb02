"""The same program with torch and transformers: their model's encoder is the head, the rest is the edge node's.

    python -m bench.programs.edge_torch ADDRESS IMAGE QUESTION SPLIT CHECKPOINT

SPLIT is the chain's last split point, whose features the model's own `get_image_features` gives.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import edge_node.models
from bench.programs.common import tell
from edge_node.media import load_picture
from edge_node.node import AsyncEdgeNode


class TorchHead:
    """Stands in for the ONNX head: takes the pixels of split point 0, gives the tensor of the last one."""

    def __init__(self, checkpoint: str) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(checkpoint, backend="pil")

    def load(self, split_point: int) -> None:
        """It has its weights already."""

    @torch.no_grad()
    def run(self, tensors: Sequence[Any], split_point: int) -> list[Any]:
        (pixels,) = map(torch.from_numpy, tensors)
        output = self.model.get_image_features(pixel_values=pixels, return_dict=True)
        return [tensor.numpy() for tensor in output.pooler_output]


async def ask(address: str, image: str, question: str, split: int, checkpoint: str) -> str:
    head = TorchHead(checkpoint)
    picture = load_picture(Path(image))
    inputs = head.processor.image_processor(images=picture.image, return_tensors="np")
    assert inputs["pixel_values"].shape[0] == 1
    # The edge node, its head replaced: everything else that it does is the same work.
    setattr(edge_node.models, "Head", lambda *_: head)  # noqa: B010
    async with AsyncEdgeNode(address) as node:
        return await node.ask(question, picture.image, split=split, codec="raw").text()


def main(address: str, image: str, question: str, split: str, checkpoint: str) -> None:
    tell(asyncio.run(ask(address, image, question, int(split), checkpoint)))


if __name__ == "__main__":
    main(*sys.argv[1:])
