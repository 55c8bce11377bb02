"""The dual encoder's parts: the two halves of its vision tower are the whole, and padding changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from training.dual.model import Shape, lower_tower, make_model, make_processor, upper_tower
from training.dual.tokenizer import LENGTH
from training.scenes import SIDE


@pytest.fixture
def model(dual_tokenizer: PreTrainedTokenizerFast, dual_shape: Shape) -> Any:
    return make_model(dual_shape, dual_tokenizer, seed=0).eval()


def test_lower_and_upper_tower_are_the_whole_one(model: Any) -> None:
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        whole = model.get_image_features(pixels).pooler_output
        for num_layers in range(len(model.vision_model.encoder.layers)):
            hidden = lower_tower(model, pixels, num_layers)
            assert torch.allclose(upper_tower(model, hidden, num_layers), whole, atol=1e-5)
            assert not torch.allclose(upper_tower(model, hidden.flip(0), num_layers), whole, atol=1e-3)


def test_padding_changes_no_embedding(model: Any, dual_tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["a red circle", "a picture of a small blue star in the top left"]
    padded = dual_tokenizer(texts, padding="max_length", return_tensors="pt")
    assert padded["input_ids"].shape == (2, LENGTH)
    with torch.no_grad():
        together = model.get_text_features(**padded).pooler_output
        for text, embedded in zip(texts, together, strict=True):
            alone = model.get_text_features(**dual_tokenizer(text, return_tensors="pt")).pooler_output[0]
            assert torch.allclose(alone, embedded, atol=1e-5)
        assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_the_end_of_a_text_is_what_is_read(model: Any, dual_tokenizer: PreTrainedTokenizerFast) -> None:
    end = dual_tokenizer.eos_token_id
    assert model.config.text_config.eos_token_id == end
    assert end != 2  # CLIP's mark for checkpoints whose end is the highest id instead
    assert dual_tokenizer("A red circle").input_ids == dual_tokenizer("a red circle ").input_ids
    assert dual_tokenizer("a red circle").input_ids.index(end) == 3


def test_the_processor_pads_and_cuts_where_its_caller_does_not_say(
    dual_tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids = make_processor(dual_tokenizer)(text=["a red circle", "a red circle " * 100], return_tensors="pt")
    assert ids["input_ids"].shape == (2, LENGTH)
    assert ids["input_ids"][1, -1] == dual_tokenizer.eos_token_id
