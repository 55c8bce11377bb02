"""A tokenizer as a file and settings; what a device could not follow is refused."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bench.zoo.tokenizers import make_tokenizer
from splitmodel.text_recipe import TOKENIZER_PATH, text_recipe
from wire.errors import BadInput


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer({})


def test_recipe_holds_the_settings_and_the_file_by_its_hash(tokenizer: PreTrainedTokenizerFast) -> None:
    recipe, files = text_recipe(tokenizer, 16, has_mask=True)
    assert (recipe.length, recipe.pad_id, recipe.padding_side) == (16, tokenizer.pad_token_id, "right")
    assert list(files) == [TOKENIZER_PATH]
    assert recipe.tokenizer_sha256 == sha256(files[TOKENIZER_PATH]).hexdigest()


def test_how_the_last_text_was_padded_is_not_in_the_file(tokenizer: PreTrainedTokenizerFast) -> None:
    before = text_recipe(tokenizer, 16, has_mask=True)
    tokenizer("a text", padding="max_length", max_length=7, truncation=True)
    assert text_recipe(tokenizer, 16, has_mask=True) == before
    written = json.loads(before[1][TOKENIZER_PATH])
    assert written["padding"] is None
    assert written["truncation"] is None
    assert Tokenizer.from_str(json.dumps(written)).encode("a text").ids


def test_tokenizer_that_cuts_at_the_beginning_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.truncation_side = "left"
    with pytest.raises(BadInput, match="cuts long texts at their beginning"):
        text_recipe(tokenizer, 16, has_mask=True)


def test_tokenizer_without_a_fast_form_or_a_padding_token_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.pad_token = None
    for one in (tokenizer, object()):
        with pytest.raises(BadInput, match="no form that a device can run, or no padding token"):
            text_recipe(one, 16, has_mask=True)
