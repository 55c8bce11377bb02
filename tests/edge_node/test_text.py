"""Texts become the ids and masks that transformers' fast tokenizers make, padded and cut alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bench.zoo.tokenizers import make_tokenizer
from edge_node.preprocess import needed_files, preprocess
from edge_node.text import text_tensors
from splitmodel.text_recipe import text_recipe
from wire.errors import BadInput, Corrupt
from wire.text_preprocessing import TextPreprocessing

LENGTH = 16
TEXTS = {
    "plain": "a red circle",
    "empty": "",
    "blank": "  \t \n ",
    "one word": "circle",
    "too long": "what colour is the circle? " * 40,
    "one word that is too long": "x" * 5000,
    "unicode": "Größe — 大きさは？ 🙂 e\u0301 \u00e9 ﬁ İ ß",
    "right to left and joiners": "שלום \u200d\u200c\u202e العربية 👩‍👩‍👧",
    "controls": "a\x00b\x07c\u2028d\ufeffe",
    "special tokens written out": "<s> a </s> <pad> <unk> [CLS]",
    "capitals": "A RED Circle",
}


def word_pieces() -> PreTrainedTokenizerFast:
    """Lower-cased words in pieces, between two marks, with an unknown one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["what colour is the circle? the circle is red."], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=LENGTH,
    )


def unigrams() -> PreTrainedTokenizerFast:
    """Pieces with their likelihoods; nothing before a text, and its end's mark behind it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(["what colour is the circle? the circle is red."] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LENGTH,
    )


def byte_pairs(**settings: Any) -> PreTrainedTokenizerFast:
    made = make_tokenizer(ends=True, max_length=LENGTH)
    for name, value in settings.items():
        setattr(made, name, value)
    return made


TOKENIZERS = {
    "byte pairs between two marks": byte_pairs(),
    "byte pairs without marks": make_tokenizer(max_length=LENGTH),
    "padded with the end's mark": byte_pairs(pad_token="</s>"),
    "padded on the left": byte_pairs(padding_side="left"),
    "word pieces": word_pieces(),
    "unigrams": unigrams(),
}


def recipe_in(folder: Path, tokenizer: Any, *, has_mask: bool = True) -> TextPreprocessing:
    """The tokenizer as a bundle holds it."""
    recipe, files = text_recipe(tokenizer, LENGTH, has_mask)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return recipe


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_and_mask_equal_those_of_transformers(name: str, text: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[name]
    expected = tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np")
    ids, mask = text_tensors(recipe_in(tmp_path, tokenizer), text, tmp_path)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (1, LENGTH)
    assert np.array_equal(ids, expected["input_ids"])
    assert np.array_equal(mask, expected["attention_mask"])


def test_texts_of_these_tests_are_told_apart(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, TOKENIZERS["byte pairs between two marks"])
    rows = {text_tensors(recipe, text, tmp_path)[0].tobytes() for text in TEXTS.values()}
    assert len(rows) == len(TEXTS)


def test_mask_is_left_out_where_the_encoder_takes_none(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, TOKENIZERS["word pieces"], has_mask=False)
    (ids,) = preprocess(recipe, "a red circle", tmp_path)
    assert ids.shape == (1, LENGTH)


def test_tokenizer_is_a_file_that_is_needed_and_loaded_once(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, TOKENIZERS["unigrams"])
    assert needed_files(recipe) == [recipe.tokenizer]
    before = text_tensors(recipe, "a red circle", tmp_path)
    (tmp_path / recipe.tokenizer).unlink()
    again = text_tensors(recipe, "a red circle", tmp_path)
    assert np.array_equal(before[0], again[0])


def test_file_that_is_no_tokenizer_is_one_clear_error(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, TOKENIZERS["unigrams"])
    (tmp_path / recipe.tokenizer).write_text("{")
    with pytest.raises(Corrupt, match="ask again") as raised:
        text_tensors(recipe, "hi", tmp_path)
    assert "\n" not in str(raised.value)


def test_media_of_another_modality_are_refused(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, TOKENIZERS["unigrams"])
    with pytest.raises(BadInput, match="ndarray"):
        preprocess(recipe, np.zeros(5, np.float32), tmp_path)
