"""The choice of tokens: the model's own processors, and draws that depend on the seed and the token's index only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessorList

from cloud_node.asked.settings import Settings
from cloud_node.model.sampling import Choice, choose, make_choice
from splitmodel.adapters.generator import Generator
from splitmodel.loading import load
from splitmodel.media import MediaInput
from wire.errors import BadInput, CleaveError, ModelFailed

VOCABULARY = 40


@pytest.fixture(scope="module")
def adapter(tiny_checkpoint: Path) -> Generator:
    return Generator(load(str(tiny_checkpoint)))


@pytest.fixture(autouse=True)
def same_defaults(adapter: Generator) -> Any:
    """What a test sets in the model's generation config is gone after it."""
    before = adapter.model.generation_config.to_dict()
    yield
    adapter.model.generation_config.update(**before)


def require_scores_of_generate(adapter: Generator, settings: Settings) -> None:
    """At every step, our scores of `generate`'s own logits are bit-equal to its own scores; greedy tokens, too."""
    call = adapter.whole([MediaInput("image", Image.new("RGB", (48, 48), (200, 30, 90)))], "what is red?")
    torch.manual_seed(0)
    reference = call.generate(
        output_scores=True, output_logits=True, return_dict_in_generate=True,
        **settings.generate_arguments(),
    )  # fmt: skip
    num_prompt = call.prompt_tokens
    ids = reference.sequences[0].tolist()
    choice = make_choice(adapter.model, settings, ids[:num_prompt], settings.max_new_tokens)
    seen: list[Tensor] = []
    choice.processors.append(lambda _, scores: seen.append(scores) or scores)
    for step, (logits, scores) in enumerate(zip(reference.logits, reference.scores, strict=True)):
        (token,) = choose(logits.clone(), [choice])
        assert torch.equal(seen[-1], scores), step
        if choice.is_greedy:
            assert token == ids[num_prompt + step]
        choice.token_ids[num_prompt:] = ids[num_prompt : num_prompt + step + 1]
    assert len(seen) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "repetition_penalty": 1.7},
        {"temperature": 0.0, "min_new_tokens": 10},
        {"temperature": 0.0, "min_new_tokens": 10, "repetition_penalty": 0.4},
        {"temperature": 1.0},  # generate draws from the likeliest 50 where nobody says otherwise
        {"temperature": 0.6},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_k": 0},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.4, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
        {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.3, "min_new_tokens": 10},
    ],
    ids=str,
)
def test_scores_are_those_of_the_models_own_generate(adapter: Generator, settings: dict[str, Any]) -> None:
    require_scores_of_generate(adapter, Settings(max_new_tokens=10, **settings))


@pytest.mark.slow
@pytest.mark.parametrize(
    "defaults",
    [
        {"do_sample": True, "temperature": 0.5, "top_k": 7},
        {"repetition_penalty": 1.5},
        {"min_new_tokens": 6},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[5], [6, 7]], "suppress_tokens": [8, 9]},
        {"min_length": 20},
    ],
    ids=str,
)
def test_defaults_are_the_checkpoints_own(adapter: Generator, defaults: dict[str, Any]) -> None:
    adapter.model.generation_config.update(**defaults)
    require_scores_of_generate(adapter, Settings(max_new_tokens=10))


@pytest.mark.slow
def test_settings_leave_no_trace_on_the_model(adapter: Generator) -> None:
    before = adapter.model.generation_config.to_dict()
    make_choice(adapter.model, Settings(8, temperature=0.5, top_k=3, min_new_tokens=2), [1, 2], 8)
    assert adapter.model.generation_config.to_dict() == before


@pytest.mark.slow
def test_beam_search_is_refused(adapter: Generator) -> None:
    adapter.model.generation_config.num_beams = 3
    with pytest.raises(BadInput, match="beam search"):
        make_choice(adapter.model, Settings(8), [1, 2], 8)


def sampled(seed: int, num_chosen: int = 0) -> Choice:
    return Choice(LogitsProcessorList(), False, seed, [1, 2, 3], num_chosen)


def logits_of(num_rows: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def draws(seed: int, num_tokens: int = 40) -> list[int | CleaveError]:
    """So many tokens of one sequence, always of the same logits."""
    choice = sampled(seed)
    return [choose(logits_of(1), [choice])[0] for _ in range(num_tokens)]


def test_draw_depends_on_the_seed_and_the_tokens_index_only() -> None:
    first = draws(7)
    torch.manual_seed(123)
    assert draws(7) == first
    for index, token in enumerate(first):
        assert choose(logits_of(1), [sampled(7, index)]) == [token]


def test_other_seeds_and_other_indices_draw_other_tokens() -> None:
    runs = [tuple(draws(seed)) for seed in (0, 1, 2, 2**32, 2**63 - 1, 2**64 - 1)]
    assert len(set(runs)) == len(runs)
    assert all(len(set(run)) > 3 for run in runs)


def test_draws_leave_the_common_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draws(7, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("along", ["seeds", "indices"])
def test_draws_follow_the_softmax(along: str) -> None:
    """Total variation over 4,000 draws: chance alone gives 0.03 here, a draw of one token less gives 0.1."""
    num_draws = 4000
    logits = logits_of(1).expand(num_draws, -1).clone()
    choices = [sampled(i, 0) if along == "seeds" else sampled(9, i) for i in range(num_draws)]
    counts = torch.zeros(VOCABULARY)
    for token in choose(logits, choices):
        assert isinstance(token, int)
        counts[token] += 1
    expected = torch.softmax(logits[0], -1)
    assert float((counts / num_draws - expected).abs().sum() / 2) < 0.05


def test_order_of_rows_does_not_matter() -> None:
    logits = logits_of(9)

    def chosen(order: list[int]) -> dict[int, int | CleaveError]:
        tokens = choose(logits[order].clone(), [sampled(row, 4) for row in order])
        return dict(zip(order, tokens, strict=True))

    alone = {row: chosen([row])[row] for row in range(9)}
    assert chosen(list(range(9))) == alone
    assert chosen([4, 8, 0, 3, 7, 1, 2, 6, 5]) == alone


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("is_greedy", [True, False])
def test_row_without_finite_logits_fails_alone(value: float, is_greedy: bool) -> None:
    logits = logits_of(3)
    clean = choose(logits.clone(), [sampled(row) for row in range(3)])
    logits[1, 5] = value
    choices = [sampled(0), Choice(LogitsProcessorList(), is_greedy, 1, [1]), sampled(2)]
    tokens = choose(logits, choices)
    assert isinstance(tokens[1], ModelFailed)
    assert [tokens[0], tokens[2]] == [clean[0], clean[2]]
    assert choices[1].num_chosen == 0


def raising(_: Tensor, scores: Tensor) -> Tensor:
    raise KeyError("the user's own words")


def forbidding(_: Tensor, scores: Tensor) -> Tensor:
    return torch.full_like(scores, -torch.inf)


@pytest.mark.parametrize("processor", [raising, forbidding])
def test_row_whose_processor_fails_or_leaves_nothing_fails_alone_and_tells_nothing(processor: Any) -> None:
    logits = logits_of(3)
    clean = choose(logits.clone(), [sampled(row) for row in range(3)])
    choices = [sampled(row) for row in range(3)]
    choices[1].processors.append(processor)
    tokens = choose(logits, choices)
    assert isinstance(tokens[1], ModelFailed)
    assert "words" not in str(tokens[1])
    assert [tokens[0], tokens[2]] == [clean[0], clean[2]]


def test_tokens_that_end_an_answer_are_forbidden_to_their_own_row_only() -> None:
    logits = torch.zeros(2, VOCABULARY)
    logits[:, 3] = 9.0
    logits[:, 4] = 5.0

    def greedy(at_least: int) -> Choice:
        return Choice(LogitsProcessorList(), True, 0, [], stop_ids=frozenset([3]), min_new_tokens=at_least)

    choices = [greedy(2), greedy(0)]
    assert [choose(logits.clone(), choices) for _ in range(3)] == [[4, 3], [4, 3], [3, 3]]
