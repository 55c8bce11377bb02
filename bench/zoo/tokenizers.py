"""A tiny byte-level tokenizer with the special tokens that a family's processor asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 320
_SENTENCES = ["what colour is the circle? the circle is red. how many things are there?"]


def make_tokenizer(
    named: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
    *,
    ends: bool = False,
    max_length: int | None = None,
    masks: bool = True,
    chat_template: str | None = None,
) -> PreTrainedTokenizerFast:
    """Byte-level, so that random ids make partial UTF-8 as real ones do.

    `named` special tokens are attributes of the tokenizer (`image_token` and such); `ends` puts a text between
    `<s>` and `</s>`; without `masks` the model is not told what of it is padding.
    """
    named = dict(named or {})
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", *dict.fromkeys([*named.values(), *others])],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    settings: dict[str, Any] = {} if max_length is None else {"model_max_length": max_length}
    if not masks:
        settings["model_input_names"] = ["input_ids"]
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=named, additional_special_tokens=list(others) or None,
        **settings,
    )  # fmt: skip
    made.chat_template = chat_template
    return made


def chat_template(placeholder: str, modality: str = "image") -> str:
    """A turn's parts one after the other, each picture or sound as its placeholder, a line per turn."""
    return (
        "{% for message in messages %}{% for part in message['content'] %}"
        f"{{% if part['type'] == '{modality}' %}}{placeholder}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        "{% endfor %}\n{% endfor %}"
    )
