"""The default model's tokenizer: byte-level BPE over the project's own questions, so that any text has tokens."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.questions import questions
from training.scenes import COLOURS, scene

TOKENIZER = "tokenizer"  # the folder in a run's folder: its weights mean nothing with another tokenizer
VOCABULARY = 512
_NUM_SCENES = 1500
# easy-VQA's words beyond ours.
_MORE_WORDS = "rectangle teal gray brown does the image contain a not present color shape is no of"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Always the same one: it is trained on the scenes of fixed seeds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"}, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _texts() -> Iterator[str]:
    for seed in range(_NUM_SCENES):
        for question in questions(scene(seed), 8):
            yield question.text
            yield question.answer
    for word in [*_MORE_WORDS.split(), *COLOURS]:
        for _ in range(50):
            yield f"the {word} {word}?"
