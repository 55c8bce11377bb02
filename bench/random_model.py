"""A LLaVA-class checkpoint: a decoder of about 100 M random parameters, the default model's eyes and tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers import logging as transformers_logging

_DECODER = {
    "hidden_size": 768,
    "intermediate_size": 2560,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "head_dim": 64,
}


def make_random_model(default: Path, folder: Path, seed: int) -> Path:
    """Writes the checkpoint to `folder`. Weights N(0, 1/fan_in), embeddings N(0, 1): every input changes the tokens."""
    transformers_logging.disable_progress_bar()
    folder.mkdir(parents=True)
    for file in default.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, folder)
    config = AutoConfig.from_pretrained(default)
    for name, value in _DECODER.items():
        setattr(config.text_config, name, value)
    config.dtype = config.text_config.dtype = config.vision_config.dtype = torch.float32
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    _randomise(model, seed)
    model.save_pretrained(folder)
    # Written anew by save_pretrained, from another model's defaults.
    shutil.copy(default / "generation_config.json", folder)
    return folder


def num_decoder_parameters(model: Any) -> int:
    """Of the decoder alone, its embeddings left out."""
    return sum(p.numel() for name, p in model.get_decoder().named_parameters() if "embed" not in name)


@torch.no_grad()
def _randomise(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1:
                fan_in = 1 if isinstance(module, nn.Embedding) else parameter[0].numel()
                parameter.normal_(0, fan_in**-0.5, generator=generator)
            elif name == "weight":
                parameter.normal_(1, 0.1, generator=generator)
            else:
                parameter.normal_(0, 0.1, generator=generator)
