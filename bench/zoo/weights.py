"""Random weights on which every input matters, and a checkpoint's parts written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import logging as transformers_logging


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Weights N(0, 1/fan_in), embeddings N(0, 1), no zero tensor: so every input changes the tokens."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            scale = 1.0 if isinstance(module, nn.Embedding) else fan_in**-0.5
            values = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.dim() == 1 and name == "weight"
            parameter.copy_(
                1 + 0.1 * values if is_gain else scale * values if parameter.dim() > 1 else 0.1 * values
            )


def save(folder: Path, model: Any, *parts: Any, seed: int = 3) -> Path:
    """A complete checkpoint: the model with random weights, and its processor or the parts of one."""
    transformers_logging.disable_progress_bar()
    randomise(model.eval(), seed)
    model.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder


def save_parts(folder: Path, processor_class: str, settings: dict[str, Any], video_processor: str) -> None:
    """The two files of a processor whose own class does not load where videos cannot be read.

    As in a published checkpoint: what is no part's setting, and the video processor's type.
    """
    for name, content in (
        ("processor_config.json", {"processor_class": processor_class, **settings}),
        ("video_preprocessor_config.json", {"video_processor_type": video_processor}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
