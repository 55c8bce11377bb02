"""Shared prefixes: what is reused was computed from the same, and the tokens are those without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cloud_node.asked.tenants import Tenant
from cloud_node.model.prefix import PrefixKey, PrefixStore, prefix_key
from cloud_node.model.prompt import chunk_cuts
from cloud_node.model.runner import ModelRunner
from cloud_node.model.serving import serve
from splitmodel.loading import load
from splitmodel.recording import PrefillCall
from tests.cloud_node.engine.questions import Question
from tests.kit.generations import Asked, run_alone, run_together

NUM_PICTURE_TOKENS = 9


def call_of(
    ids: list[int], *, picture: float = 1.0, picture_at: int = 2, mask: Tensor | None = None
) -> PrefillCall:
    """A prompt whose token at `picture_at` is a picture's; all others are embedded as their ids."""
    embeds = torch.tensor(ids, dtype=torch.float32)[None, :, None].repeat(1, 1, 2)
    embeds[0, picture_at] = 1000 + picture
    positions = torch.arange(len(ids))[None]
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    return PrefillCall(
        np.array(ids), embeds, positions, positions[:, -1:] + 1, {"full": causal if mask is None else mask}
    )


def key_of(call: PrefillCall) -> PrefixKey | None:
    embedded = torch.from_numpy(call.input_ids).float()[None, :, None].repeat(1, 1, 2)
    return prefix_key(call, embedded, chunk_cuts(call.masks))


def test_a_prompt_is_shared_within_one_tenant_only() -> None:
    call = call_of(IDS)
    embedded = torch.from_numpy(call.input_ids).float()[None, :, None].repeat(1, 1, 2)
    keys = {
        prefix_key(call, embedded, chunk_cuts(call.masks), tenant) for tenant in ("", "acme", "other", "acme")
    }
    assert len(keys) == 3


def rows_of(call: PrefillCall, num_bytes: int = 0) -> list[Tensor]:
    return [torch.zeros(1, max(call.num_tokens, num_bytes), 1)]


def kept(store: PrefixStore, call: PrefillCall) -> PrefixKey:
    key = key_of(call)
    assert key is not None
    store.keep(key, call, rows_of(call))
    return key


def shared(store: PrefixStore, call: PrefillCall) -> int:
    return store.find(key_of(call), call, chunk_cuts(call.masks))[0]


IDS = [5, 6, 9, 7, 8, 4]


@pytest.mark.parametrize(
    ("ids", "num_shared"),
    [
        (IDS, 5),  # all but the last, whose logits are needed
        ([*IDS, 3, 2], 6),
        ([5, 6, 9, 7, 3, 4], 4),
        ([5, 6, 9, 1], 3),
        ([5, 6, 9], 2),
        ([5, 1, 9, 7, 8, 4], 0),  # differs before the picture
    ],
)
def test_prompts_share_what_agrees_but_for_the_last_token(ids: list[int], num_shared: int) -> None:
    store = PrefixStore(10_000)
    kept(store, call_of(IDS))
    assert shared(store, call_of(ids)) == num_shared


def test_other_picture_and_other_place_share_nothing() -> None:
    store = PrefixStore(10_000)
    kept(store, call_of(IDS))
    assert shared(store, call_of(IDS, picture=2.0)) == 0
    assert shared(store, call_of(IDS, picture_at=1)) == 0


def test_prompt_without_a_picture_has_no_key() -> None:
    call = call_of(IDS)
    assert prefix_key(call, call.inputs_embeds, chunk_cuts(call.masks)) is None


def test_other_positions_of_the_same_tokens_share_nothing() -> None:
    store = PrefixStore(10_000)
    kept(store, call_of(IDS))
    other = call_of(IDS)
    other.position_ids[0, 4] += 1
    assert shared(store, other) == 0


def test_prompt_that_reads_forward_through_its_picture_is_not_shared() -> None:
    """As where the question is part of the prefix: the picture's keys depend on what comes after it."""
    forward = torch.ones(len(IDS), len(IDS), dtype=torch.bool)
    assert key_of(call_of(IDS, mask=forward)) is None


def test_span_that_reads_forward_is_shared_whole_or_not_at_all() -> None:
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    mask[3:5, 3:5] = True  # tokens 3 and 4 read one another
    store = PrefixStore(10_000)
    kept(store, call_of(IDS, mask=mask))
    assert shared(store, call_of([5, 6, 9, 7, 8, 1], mask=mask)) == 5
    assert shared(store, call_of([5, 6, 9, 7, 1, 4], mask=mask)) == 3


def test_tokens_that_read_what_is_not_shared_are_not_shared() -> None:
    """The kept prompt's tokens read one that the new one, where they read nothing ahead, has otherwise."""
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    mask[3, 4] = True
    store = PrefixStore(10_000)
    kept(store, call_of(IDS, mask=mask))
    assert shared(store, call_of([5, 6, 9, 7, 1, 4])) == 0


def test_store_stays_within_its_bytes_and_forgets_the_least_recently_used() -> None:
    store = PrefixStore(1200)
    calls = [call_of(IDS, picture=float(picture)) for picture in range(20)]
    first = kept(store, calls[0])
    for call in calls[1:]:
        assert shared(store, calls[0]) > 0, "used all the time"
        latest = kept(store, call)
        assert store.has(latest)
        assert 0 < store.num_bytes <= store.max_bytes
        assert store.has(first)
    held = [call for call in calls if store.has(key_of(call) or first)]
    assert held == [calls[0], *calls[len(calls) - len(held) + 1 :]]
    assert 2 < len(held) == len(store) < len(calls)


def test_prompt_larger_than_the_store_is_not_kept_and_drops_nothing() -> None:
    store = PrefixStore(1200)
    key = kept(store, call_of(IDS))
    big = call_of(IDS, picture=2.0)
    big_key = key_of(big)
    assert big_key is not None
    store.keep(big_key, big, rows_of(big, 5000))
    assert not store.has(big_key)
    assert store.has(key)


def test_key_that_is_kept_again_counts_once() -> None:
    store = PrefixStore(10_000)
    kept(store, call_of(IDS))
    once = store.num_bytes
    kept(store, call_of(IDS))
    assert (store.num_bytes, len(store)) == (once, 1)


@pytest.fixture(scope="module")
def model_runner(tiny_checkpoint: Path, tiny_bundle: Path) -> ModelRunner:
    return serve(load(str(tiny_checkpoint)), tiny_bundle)[1]


@pytest.fixture
def reusing(model_runner: ModelRunner) -> Iterator[ModelRunner]:
    """The runner with an empty store."""
    model_runner.prefixes = PrefixStore(1 << 20)
    return model_runner


def fresh(runner: ModelRunner, question: Question) -> Asked:
    """The answer without any prefix; the runner's store is as before."""
    before, runner.prefixes = runner.prefixes, PrefixStore(0)
    try:
        return run_alone(runner, question.ask(runner))
    finally:
        runner.prefixes = before


def noting_logits(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    noted: list[Tensor] = []
    run = runner.decoder.run

    def noting(*args: Any, **kwargs: Any) -> Tensor:
        noted.append(run(*args, **kwargs))
        return noted[-1]

    monkeypatch.setattr(runner.decoder, "run", noting)
    return noted


LONG_ANSWER = {"max_new_tokens": 20, "min_new_tokens": 20}


@pytest.mark.slow
@pytest.mark.parametrize(
    "second", ["what?", "how many things?", "what colour?", "w", "what? what? what? what? what?"]
)
def test_second_question_about_a_picture_reads_only_what_is_new_and_answers_the_same(
    reusing: ModelRunner, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    run_alone(reusing, Question(0, "what?", settings=LONG_ANSWER).ask(reusing))
    question = Question(0, second, settings=LONG_ANSWER)
    expected = fresh(reusing, question)
    noted = noting_logits(reusing, monkeypatch)
    asked = run_alone(reusing, question.ask(reusing))
    assert NUM_PICTURE_TOKENS <= asked.sequence.num_reused < asked.sequence.num_prompt_tokens
    assert asked.token_ids == expected.token_ids
    reused, noted[:] = list(noted), []
    fresh(reusing, question)
    assert len(noted) >= len(reused)
    for after, before in zip(reused[-20:], noted[-20:], strict=True):
        assert torch.allclose(after, before, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_same_question_again_reads_one_token(reusing: ModelRunner) -> None:
    first, again = (run_alone(reusing, Question(0, "what?").ask(reusing)) for _ in range(2))
    assert first.sequence.num_reused == 0
    assert again.sequence.num_reused == again.sequence.num_prompt_tokens - 1
    assert again.token_ids == first.token_ids


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", [Question(1, "what?"), Question(0, "what?", split=9, codec="int8")], ids=str
)
def test_other_picture_or_other_codec_reuses_nothing(reusing: ModelRunner, other: Question) -> None:
    run_alone(reusing, Question(0, "what?", split=9).ask(reusing))
    asked = run_alone(reusing, other.ask(reusing))
    assert asked.sequence.num_reused == 0
    assert asked.token_ids == fresh(reusing, other).token_ids


@pytest.mark.slow
def test_the_same_question_of_another_tenant_reuses_nothing(reusing: ModelRunner) -> None:
    """A prompt that is read sooner would tell that somebody asked about the picture before."""
    asked = []
    for tenant in ("acme", "other", "acme"):
        one = Question(0, "what?").ask(reusing)
        one.sequence.request = replace(one.sequence.request, tenant=Tenant(tenant))
        asked.append(run_alone(reusing, one))
    assert [one.sequence.num_reused > 0 for one in asked] == [False, False, True]
    assert reusing.prefixes.num_hits == 1


@pytest.mark.slow
def test_questions_in_one_batch_share_and_answer_as_each_alone(reusing: ModelRunner) -> None:
    prompts = ["what?", "what colour?", "what?", "how many things are there?", "w"] * 2
    questions = [Question(at % 2, prompt, settings=LONG_ANSWER) for at, prompt in enumerate(prompts)]
    asked = [question.ask(reusing) for question in questions]
    run_together(reusing, asked, num_slots=3, chunk_tokens=5)
    assert sum(one.sequence.num_reused > 0 for one in asked) == len(asked) - 2
    for one, question in zip(asked, questions, strict=True):
        assert one.token_ids == fresh(reusing, question).token_ids
