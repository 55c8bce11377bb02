"""A model's own loop, taken over: step by step it gives the tokens of the model's own `generate`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.zoo.tokenizers import VOCABULARY
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.loading import load
from splitmodel.media import MediaInput
from splitmodel.model_call import ModelCall
from splitmodel.own_loop import OwnLoop
from tests.kit.zoo_adapters import adapter_of, encoders_of, folder_of, through, untraced
from wire.errors import BadInput
from wire.modality import Modality

pytestmark = pytest.mark.slow
NUM_TOKENS = 10
GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": NUM_TOKENS}
# Ids that a multilingual model's generation config names: of languages, of tasks, and of no time stamps, which are all
# ids behind that one, and so none here.
LANGUAGES, TASKS = {"<|en|>": 20, "<|fr|>": 21}, {"transcribe": 30, "translate": 31}
NO_TIMES = VOCABULARY - 1


def generated(call: ModelCall, **settings: Any) -> list[int]:
    """The model's own answer, without what it began with."""
    output = call.generate(**{**GREEDY, **settings}, output_logits=True, return_dict_in_generate=True)
    return list(output.sequences[0].tolist()[-len(output.logits) :])


def looped(call: ModelCall, **settings: Any) -> list[int]:
    """The same, a step at a time: the model's own processors, the most likely token, until its end."""
    loop = OwnLoop(call, {**GREEDY, **settings})
    assert loop.config is not None
    ends = {loop.config.eos_token_id} if isinstance(loop.config.eos_token_id, int) else set()
    ids, chosen, logits = loop.prompt_ids, list[int](), loop.read()
    while True:
        scores = loop.processors(torch.tensor([[*ids, *chosen]]), logits)
        chosen.append(int(scores.argmax()))
        if len(chosen) == NUM_TOKENS or chosen[-1] in ends:
            return chosen
        logits = loop.step(chosen[-1])


def calls(name: str, modality: Modality, adapter: Adapter | None = None) -> list[tuple[ModelCall, ModelCall]]:
    """Of two inputs: the whole model's, and that from features."""
    own = adapter or adapter_of(name)
    encoder = encoders_of(name, modality)[0]
    prompt = "What is this?" if own.processing.takes_prompt else ""
    return [
        (own.whole([MediaInput(modality, one)], prompt), own.split([through(name, encoder, one, 2)], prompt))
        for one in untraced(name, encoder)
    ]


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("llava", "image"),
        ("qwen2_5_vl", "image"),
        ("florence2", "image"),
        ("moonshine", "audio"),
        ("whisper", "audio"),
    ],
)
def test_tokens_are_those_of_generate(name: str, modality: Modality) -> None:
    """Positions of several axes, a prompt that an encoder reads, decoders that begin with one token."""
    answers = []
    for whole, split in calls(name, modality):
        expected = generated(whole)
        assert looped(whole) == expected
        assert looped(split) == expected
        answers.append(expected)
    assert answers[0] != answers[1], "the answers ignore their inputs"


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.7},
        {"min_new_tokens": 9},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": [7, 270]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_models_own_processors_of_a_setting_are_kept(settings: dict[str, Any]) -> None:
    for whole, split in calls("vit_gpt2", "image"):
        assert looped(split, **settings) == generated(whole, **settings)


def multilingual() -> Adapter:
    """The zoo's model that hears, with languages and tasks as a published one's generation config has them."""
    adapter = adapter_for(load(str(folder_of("whisper"))))
    config = adapter.model.generation_config
    config.lang_to_id, config.task_to_id, config.no_timestamps_token_id = LANGUAGES, TASKS, NO_TIMES
    config.is_multilingual = True
    return adapter


def test_language_and_task_go_into_the_decoders_prompt() -> None:
    adapter = multilingual()
    [(whole, split), _] = calls("whisper", "audio", adapter)
    answers = []
    for language, language_id in LANGUAGES.items():
        for task, task_id in TASKS.items():
            settings = {"language": language, "task": task}
            loop = OwnLoop(split, {**GREEDY, **settings})
            assert loop.prompt_ids == [1, language_id, task_id, NO_TIMES]
            answers.append(looped(split, **settings))
            assert answers[-1] == generated(whole, **settings), settings
    assert len(set(map(tuple, answers))) > 1, "the answers ignore language and task"


def test_setting_that_the_model_does_not_have_is_refused_in_one_sentence() -> None:
    [(_, split), _] = calls("llava", "image")
    for settings in ({"language": "en"}, {"min_new_tokens": "many"}):
        with pytest.raises(BadInput, match=r"^the model does not take these settings: ") as told:
            OwnLoop(split, {**GREEDY, **settings})
        assert "\n" not in str(told.value)


def test_model_that_generates_in_a_way_of_its_own_is_refused() -> None:
    class Fixed:
        """Its `generate` never comes to a loop."""

        def generate(self, **inputs: Any) -> Any:
            return torch.tensor([[1, 2]])

    with pytest.raises(BadInput, match="generates in a way of its own, which cannot be served; use another"):
        OwnLoop(ModelCall(Fixed(), {}), GREEDY)


def test_two_loops_of_one_model_go_on_side_by_side() -> None:
    """Nothing of a sequence is left on the model: Qwen's keeps its positions there."""
    (_, one), (_, other) = calls("qwen2_5_vl", "image")
    expected = [looped(one), looped(other)]
    loops = [OwnLoop(call, GREEDY) for call in (one, other)]
    logits = [loop.read() for loop in loops]
    answers: list[list[int]] = [[], []]
    for _ in range(len(expected[0])):
        for index, loop in enumerate(loops):
            answers[index].append(int(logits[index].argmax()))
            logits[index] = loop.step(answers[index][-1])
    assert [a[: len(e)] for a, e in zip(answers, expected, strict=True)] == expected
