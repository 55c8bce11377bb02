"""The dual encoder's tokenizer: lower-case byte-level BPE over captions; every text ends in `</s>`, which is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.dual.captions import STYLES, caption
from training.dual.pictures import FIRST_SEED
from training.scenes import scene

LENGTH = 64  # tokens; the longest caption of four things has fewer
_VOCABULARY = 512
_NUM_SCENES = 500
_END = "</s>"
# Where CLIP's text encoder is told that the end has id 2, it looks for the highest id instead.
_END_ID = 1


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Always the same one: it is trained on captions of fixed seeds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", _END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", pair=None, special_tokens=[(_END, _END_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=_END, model_max_length=LENGTH,
        clean_up_tokenization_spaces=False,
        padding="max_length", truncation=True,  # what the processor does where its caller does not say
    )  # fmt: skip


def _texts() -> Iterator[str]:
    rng = np.random.default_rng(0)
    for seed in range(FIRST_SEED, FIRST_SEED + _NUM_SCENES):
        things = scene(seed).things
        for style in STYLES:
            yield caption(things, style, rng).text
