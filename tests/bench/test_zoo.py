"""The zoo: every checkpoint is complete, loads with its own processor, and answers by what it sees or hears."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils import _pytree as pytree
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from bench.zoo import NAMES
from splitmodel.processor_parts import MissingPart
from tests.kit.zoo import ALL, RATE, checkpoint_folder, contents, inputs_of, load
from wire.errors import BadInput

GENERATING = [name for shape, names in NAMES.items() if shape != "dual encoder" for name in names]


@torch.no_grad()
def tokens(model: Any, inputs: Mapping[str, Any]) -> list[int]:
    """The greedy answer, without the prompt."""
    answer = model.generate(**inputs, do_sample=False, max_new_tokens=12)[0].tolist()
    prompt = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return list(answer[prompt:])


def zeroed(output: Any) -> Any:
    return pytree.tree_map(lambda leaf: torch.zeros_like(leaf) if is_float(leaf) else leaf, output)


def is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def silence_encoder(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, whatever comes out of the model's encoder is zero."""
    inner = model.base_model
    methods = [name for name in ("get_image_features", "get_audio_features") if hasattr(inner, name)]
    if methods:
        monkeypatch.setattr(inner, methods[0], silenced(getattr(inner, methods[0])))
        return
    projector = getattr(inner, "multi_modal_projector", None)
    module = projector if projector is not None else model.get_encoder()
    module.register_forward_hook(lambda _module, _args, output: zeroed(output))


def silenced(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def silent(*args: Any, **settings: Any) -> Any:
        return zeroed(method(*args, **settings))

    return silent


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_checkpoint_is_complete_and_no_tensor_is_zero(name: str) -> None:
    folder = checkpoint_folder(name)
    assert AutoTokenizer.from_pretrained(folder).eos_token == "</s>"
    if name in GENERATING:
        assert GenerationConfig.from_pretrained(folder).eos_token_id == 2
    weights = load_file(folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) < 400_000
    zero = [key for key, tensor in weights.items() if tensor.is_floating_point() and not tensor.any()]
    assert not [key for key in zero if "running" not in key]
    config = AutoConfig.from_pretrained(folder)
    model_class = getattr(transformers, config.architectures[0])
    _, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATING)
def test_answers_depend_on_what_is_seen_or_heard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = load(checkpoint_folder(name))
    one, other = (inputs_of(name, processor, content) for content in contents(name))
    answer = tokens(model, one)
    assert len(set(answer)) > 2, "an answer that repeats one token shows little"
    assert answer != tokens(model, other)
    silence_encoder(model, monkeypatch)
    assert answer != tokens(model, one)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES["dual encoder"])
def test_embeddings_depend_on_their_input(name: str) -> None:
    model, processor = load(checkpoint_folder(name))
    texts = processor.tokenizer(["a red circle", "two dogs"], padding="max_length", return_tensors="pt")
    embedded = [model.get_text_features(**{k: v[i : i + 1] for k, v in texts.items()}) for i in (0, 1)]
    assert differ(*embedded)
    if name == "clap":
        extract = processor.feature_extractor
        heard = [extract(sound, sampling_rate=RATE, return_tensors="pt") for sound in contents(name)]
        assert differ(*(model.get_audio_features(**inputs) for inputs in heard))
    else:
        seen = [processor.image_processor(picture, return_tensors="pt") for picture in contents(name)]
        blank = processor.image_processor(Image.new("RGB", (64, 64)), return_tensors="pt")
        pairs = [model.get_image_features(**inputs) for inputs in (*seen, blank)]
        assert differ(pairs[0], pairs[1])
        assert differ(pairs[0], pairs[2])


def differ(left: Any, right: Any) -> bool:
    """Whether the directions of two embeddings lie a tenth of a turn's radian apart."""
    pair = [getattr(output, "pooler_output", output).flatten() for output in (left, right)]
    return float(torch.cosine_similarity(*pair, dim=0).detach()) < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smolvlm", "internvl", "llava_next"])
def test_number_of_tiles_depends_on_the_shape_of_the_picture(name: str) -> None:
    _, processor = load(checkpoint_folder(name))
    sizes = ((64, 64), (300, 60))
    made = [inputs_of(name, processor, contents(name, size)[0]) for size in sizes]
    assert made[0]["input_ids"].shape != made[1]["input_ids"].shape


@pytest.mark.slow
def test_part_of_a_processor_that_does_not_load_says_so_when_it_is_used() -> None:
    _, processor = load(checkpoint_folder("qwen2_5_vl"))
    if not isinstance(processor.video_processor, MissingPart):
        pytest.skip("torchvision is installed here")
    with pytest.raises(BadInput, match="no video can be read"):
        processor.video_processor(videos=[])
