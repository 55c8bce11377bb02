"""Which adapter a model gets follows from what its class can do; what none is for is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, ViTConfig, ViTModel

from bench.zoo.tokenizers import VOCABULARY
from splitmodel.adapters.find import adapter_for
from splitmodel.loading import Checkpoint
from tests.kit.zoo_adapters import adapter_of
from wire.errors import BadInput

_SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_NOT_SERVED = [
    GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2)),
    BertModel(BertConfig(vocab_size=VOCABULARY, **_SIZES)),
    ViTModel(ViTConfig(image_size=32, patch_size=16, **_SIZES)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "modalities"),
    [
        ("llava", "generator", ("image",)),
        ("qwen2_5_vl", "generator", ("image",)),
        ("qwen2_audio", "generator", ("audio",)),
        ("florence2", "generator", ("image",)),
        ("whisper", "encoder-decoder", ("audio",)),
        ("vit_gpt2", "encoder-decoder", ("image",)),
        ("clip", "dual encoder", ("image", "text")),
        ("clap", "dual encoder", ("audio", "text")),
    ],
)
def test_shape_and_modalities_follow_from_what_a_model_can_do(
    name: str, shape: str, modalities: tuple[str, ...]
) -> None:
    adapter = adapter_of(name)
    assert (adapter.shape, adapter.modalities) == (shape, modalities)


@pytest.mark.parametrize("model", _NOT_SERVED, ids=lambda model: type(model).__name__)
def test_model_of_no_served_shape_is_refused_in_one_sentence(model: object) -> None:
    checkpoint = Checkpoint("mine", Path("mine"), model, None, "")
    with pytest.raises(BadInput, match=f"mine.*{type(model).__name__}") as told:
        adapter_for(checkpoint)
    assert "\n" not in str(told.value)
