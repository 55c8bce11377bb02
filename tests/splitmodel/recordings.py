"""Tiny models of every family with prompts for them, and the engine's runner without a processor before it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import LogitsProcessorList

from bench.zoo.weights import randomise
from cloud_node.model.prompt import ModelPrompt, chunk_cuts
from cloud_node.model.runner import ModelRunner, Room
from cloud_node.model.sampling import Choice
from splitmodel.decoder import Decoder
from splitmodel.model_call import ModelCall
from splitmodel.recording import PrefillCall
from tests.splitmodel.families import FAMILIES

WINDOW = 8
NUM_NEW = 12
# Their decoders read the last few tokens in some layers or in all.
WINDOWED = {
    "gemma3": {"layer_types": ["sliding_attention", "full_attention"]},
    "aya_vision": {"layer_types": ["sliding_attention", "full_attention"]},
    "cohere2_vision": {"layer_types": ["full_attention", "sliding_attention"]},
    "mistral3": {},
}
# A picture's tokens, or all of a prompt's, read forward in them.
FORWARD = ["paligemma", "gemma3"]
# Why the engine refuses their prefill.
REFUSED = {
    "qwen3_vl": "the decoder also takes visual_pos_masks, deepstack_visual_embeds, which the engine does not"
}
ALL = FAMILIES
SERVED = [name for name in ALL if name not in REFUSED]
_PICTURE_TOKEN = 300


def make_model(name: str, **text_settings: Any) -> Any:
    """A family's tiny model with windows that matter, a picture token within its vocabulary, and no end token."""
    stem, settings, _ = ALL[name]
    settings = copy.deepcopy(settings)
    if name in WINDOWED:
        settings["text_config"].update(sliding_window=WINDOW, **WINDOWED[name])
    settings["text_config"].update(text_settings)
    config = getattr(transformers, f"{stem}Config")(**settings)
    model = getattr(transformers, f"{stem}ForConditionalGeneration")(config).eval()
    randomise(model, seed=0)
    for attribute in ("image_token_id", "image_token_index"):
        if hasattr(model.config, attribute):
            setattr(model.config, attribute, _PICTURE_TOKEN)
    model.generation_config.eos_token_id = None
    return model


@torch.no_grad()
def call_of(name: str, model: Any, seed: int) -> ModelCall:
    """A picture of noise between a few tokens of text, as the family's `generate` takes them."""
    generator = torch.Generator().manual_seed(seed)
    picture = ALL[name][2]()
    picture["pixel_values"] = torch.randn(picture["pixel_values"].shape, generator=generator)
    num_tokens = _num_tokens(model.get_image_features(**picture, return_dict=True).pooler_output)
    before, after = (
        torch.randint(3, 290, (3 + more,), generator=generator) for more in (seed % 4, 5 * (seed % 2))
    )
    ids = torch.cat([before, torch.full((num_tokens,), _PICTURE_TOKEN), after])[None]
    types = (ids == _PICTURE_TOKEN).long()
    more = {"mm_token_type_ids": types, "token_type_ids": types * (name != "paligemma")}
    taken = inspect.signature(model.forward).parameters
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **picture}
    return ModelCall(model, inputs | {key: value for key, value in more.items() if key in taken})


def whole_tokens(call: ModelCall) -> list[int]:
    """The model's own `generate`, on its own."""
    ids = call.generate(do_sample=False, max_new_tokens=NUM_NEW)[0].tolist()
    return list(ids[call.prompt_tokens :])


def make_runner(model: Any, num_slots: int = 4) -> ModelRunner:
    preparer: Any = SimpleNamespace(adapter=SimpleNamespace(model=model))
    return ModelRunner(preparer, Decoder(model), Room(num_slots, 128, 0))


def make_prompt(call: PrefillCall) -> ModelPrompt:
    choice = Choice(LogitsProcessorList(), True, 0, call.input_ids.tolist())
    steps = tuple(call.step_position_ids.reshape(-1).tolist())
    return ModelPrompt(call, chunk_cuts(call.masks), choice, frozenset(), NUM_NEW, steps)


def with_masks(call: PrefillCall, masks: Mapping[str, Tensor]) -> PrefillCall:
    return replace(call, masks=dict(masks))


def engine_tokens(runner: ModelRunner, calls: Sequence[PrefillCall], *, at_most: int = 1) -> list[list[int]]:
    """Greedy tokens of all prompts in one batch, each joining a step after the one before; read in small chunks."""
    prompts = [make_prompt(call) for call in calls]
    for row, prompt in enumerate(prompts):
        start = runner.begin(prompt, row)
        for stop in prompt.cuts:
            if stop - start >= at_most or stop == prompt.num_tokens:
                runner.read(prompt, row, start, stop)
                start = stop
        runner.step(prompts[: row + 1])
    while any(prompt.choice.num_chosen < NUM_NEW for prompt in prompts):
        runner.step(prompts)
    return [prompt.choice.token_ids[prompt.num_tokens :][:NUM_NEW] for prompt in prompts]


def _num_tokens(features: Any) -> int:
    if isinstance(features, Tensor):
        return features.numel() // features.shape[-1]
    return sum(_num_tokens(part) for part in features)
