"""The tokenizer writes and reads all three languages, and Whisper's generation finds its tokens where it looks."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from training.speech.tokenizer import NO_TIMESTAMPS, prompt_ids
from training.speech.words import LANGUAGES, WORDS, Language, text_of

_ALL = tuple(range(10))


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_come_back(tokenizer: PreTrainedTokenizerFast, language: Language) -> None:
    text = text_of(_ALL, language)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == 10
    assert tokenizer.unk_token_id not in ids
    prompt = prompt_ids(tokenizer, language, "translate")
    assert tokenizer.decode([*prompt, *ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_languages_share_no_word_but_six(tokenizer: PreTrainedTokenizerFast) -> None:
    words = [word for language in LANGUAGES for word in WORDS[language]]
    assert sorted({word for word in words if words.count(word) > 1}) == ["six"]


def test_no_word_looks_like_a_timestamp(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_tokens_to_ids(NO_TIMESTAMPS) == len(tokenizer) - 1


def test_prompts_differ_by_language_and_task(tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = {
        tuple(prompt_ids(tokenizer, language, task))
        for language in LANGUAGES
        for task in ("transcribe", "translate")
    }
    assert len(prompts) == 6
    assert all(tokenizer.unk_token_id not in prompt for prompt in prompts)
