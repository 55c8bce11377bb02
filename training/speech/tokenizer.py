"""The speech model's tokenizer: one token per word, then Whisper's own special tokens.

Whisper's `generate` takes every id above <|notimestamps|> for a timestamp, so that token comes last.
"""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from training.speech.words import LANGUAGES, WORDS, Language

UNKNOWN, PAD, END, START = "<|unknown|>", "<|pad|>", "<|endoftext|>", "<|startoftranscript|>"
NO_TIMESTAMPS = "<|notimestamps|>"
TASKS = ("transcribe", "translate")


def language_token(language: Language) -> str:
    return f"<|{language}|>"


def task_token(task: str) -> str:
    return f"<|{task}|>"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Always the same one. Words that two languages share (`six`) are one token."""
    prompt = [START, *map(language_token, LANGUAGES), *map(task_token, TASKS), NO_TIMESTAMPS]
    words = dict.fromkeys(word for language in LANGUAGES for word in WORDS[language])
    entries = [*words, UNKNOWN, PAD, END, *prompt]
    tokenizer = Tokenizer(
        models.WordLevel({entry: index for index, entry in enumerate(entries)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PAD, bos_token=END, eos_token=END,
        extra_special_tokens=prompt, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def prompt_ids(tokenizer: PreTrainedTokenizerFast, language: Language, task: str) -> list[int]:
    """What `generate` starts from: [4]."""
    tokens = [START, language_token(language), task_token(task), NO_TIMESTAMPS]
    return [int(tokenizer.convert_tokens_to_ids(token)) for token in tokens]
