"""The zoo's models with pictures, sounds and texts for them, through their own processors; and their encoders."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.utils import _pytree as pytree
from transformers import AutoConfig

from bench.zoo import NAMES, make
from partitioner.pictures import made_pictures
from splitmodel.processor_parts import LooseParts, load_processor

ALL = [name for names in NAMES.values() for name in names]
HEARING = ["qwen2_audio", "audioflamingo3", "voxtral", "whisper", "moonshine", "clap"]
RATE = 16_000
_INNER = ("last_hidden_state", "hidden_states", "attentions")
_TEXTS = ("a red circle", "how many dogs are there?")


@cache
def checkpoint_folder(name: str) -> Path:
    """Made once per process."""
    return make(name, Path(mkdtemp(prefix="zoo-")) / name)


def load(folder: Path) -> tuple[Any, Any]:
    config = AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0]).from_pretrained(folder)
    return model.eval(), load_processor(folder, config)


def contents(name: str, size: tuple[int, int] = (120, 80)) -> list[Any]:
    """Two pictures, or two sounds of one length."""
    if name not in HEARING:
        return [picture.resize(size) for picture in made_pictures(4, seed=9)[2:]]
    times = np.arange(int(1.3 * RATE)) / RATE
    return [np.sin(2 * np.pi * (pitch + 300 * times) * times).astype(np.float32) for pitch in (200, 700)]


def chat(processor: Any, modality: str) -> str:
    content = [{"type": modality}, {"type": "text", "text": "what is it?"}]
    return str(
        processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    )


def inputs_of(name: str, processor: Any, content: Any) -> dict[str, Any]:
    """What the model's own processor makes of a prompt and a picture or sound."""
    if name == "voxtral":
        return _from_window(processor, content)
    if isinstance(processor, LooseParts):
        return dict(processor.image_processor(content, return_tensors="pt"))
    if name in ("whisper", "moonshine"):
        return dict(processor(content, sampling_rate=RATE, return_tensors="pt"))
    if name == "florence2":
        return dict(processor(text="<CAPTION>", images=content, return_tensors="pt"))
    if name in HEARING:
        settings = {"audio": [content], "sampling_rate": RATE}
        return dict(processor(text=[chat(processor, "audio")], return_tensors="pt", **settings))
    return dict(processor(text=chat(processor, "image"), images=content, return_tensors="pt"))


def _from_window(processor: Any, content: Any) -> dict[str, Any]:
    """Its processor takes no sound beside text without mistral-common: one window's features and placeholders."""
    window = processor.feature_extractor(content, sampling_rate=RATE, return_tensors="pt")
    tokenizer = processor.tokenizer
    text = processor.audio_token * 375 + "what is it?"
    return {**tokenizer(text, return_tensors="pt"), "input_features": window["input_features"]}


@dataclass(frozen=True)
class EncoderCase:
    """One encoder of a family: what runs it, and two inputs for it, by name."""

    run: Callable[..., list[Tensor]]
    one: dict[str, Tensor]
    other: dict[str, Tensor]


def encoder_case(name: str, model: Any, processor: Any, modality: str) -> EncoderCase:
    """The family's encoder of a modality; floats are what it is run on, and so are a text's ids and mask."""
    method = encoder_method(name, model, modality)
    taken = inspect.signature(method).parameters
    inputs = [
        {key: value for key, value in made.items() if key in taken}
        for made in _encoder_inputs(name, processor, modality)
    ]
    content = [key for key, value in inputs[0].items() if modality == "text" or value.is_floating_point()]
    fixed = {key: value for key, value in inputs[0].items() if key not in content}

    @torch.no_grad()
    def run(*tensors: Tensor) -> list[Tensor]:
        return tensors_of(method(**dict(zip(content, tensors, strict=True)), **fixed))

    one, other = ({key: made[key] for key in content} for made in inputs)
    return EncoderCase(run, one, other)


def encoder_method(name: str, model: Any, modality: str) -> Callable[..., Any]:
    inner = model.base_model
    found = getattr(inner, f"get_{modality}_features", None)
    if found is not None:
        return found  # type: ignore[no-any-return]
    if name == "qwen2_audio":
        return lambda input_features: inner.multi_modal_projector(
            inner.audio_tower(input_features).last_hidden_state
        )
    return _states_of(model.get_encoder())


def _states_of(encoder: Any) -> Callable[..., Any]:
    """What a decoder attends to: the last states, and which of them are real."""

    @functools.wraps(encoder.forward)
    def states(**inputs: Tensor) -> dict[str, Tensor]:
        output = encoder(**inputs)
        return {"states": output.last_hidden_state, "mask": getattr(output, "attention_mask", None)}

    return states


def tensors_of(output: Any) -> list[Tensor]:
    """Of an encoder's output, what is read on: all that is not an inner state."""
    kept = output if isinstance(output, Tensor) else {k: v for k, v in output.items() if k not in _INNER}
    return [leaf for leaf in pytree.tree_leaves(kept) if isinstance(leaf, Tensor)]


def modalities(name: str) -> Sequence[str]:
    heard = "audio" if name in HEARING else "image"
    return (heard, "text") if name in NAMES["dual encoder"] else (heard,)


def _encoder_inputs(name: str, processor: Any, modality: str) -> list[dict[str, Tensor]]:
    if modality == "text":
        return [dict(processor.tokenizer([t], padding="max_length", return_tensors="pt")) for t in _TEXTS]
    if modality == "image":
        return [dict(processor.image_processor(picture, return_tensors="pt")) for picture in contents(name)]
    if name == "clap":
        extract = processor.feature_extractor
        return [dict(extract(sound, sampling_rate=RATE, return_tensors="pt")) for sound in contents(name)]
    return [inputs_of(name, processor, content) for content in contents(name)]
