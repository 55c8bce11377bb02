"""One sequence's failure touches no other: the tokens of those beside it are those that they get alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloud_node.model.runner import ModelRunner
from cloud_node.model.serving import serve
from splitmodel.loading import load
from tests.cloud_node.engine.questions import LONG, MIXED, Question, drive, require_nothing_left, require_same
from tests.kit.generations import Asked, Driven, run_alone
from wire.errors import Cancelled, ModelFailed

pytestmark = pytest.mark.slow

SECRET = "the user's own words"


@pytest.fixture(scope="module")
def runner(tiny_checkpoint: Path, tiny_bundle: Path) -> ModelRunner:
    return serve(load(str(tiny_checkpoint)), tiny_bundle)[1]


@pytest.fixture(autouse=True)
def nothing_is_reused(runner: ModelRunner) -> None:
    """So that a sequence alone and the same in a batch are both computed."""
    runner.prefixes.max_bytes = 0


def spoil_embeddings(asked: Asked) -> None:
    prompt: Any = asked.sequence.prompt
    prompt.call = replace(prompt.call, inputs_embeds=torch.full_like(prompt.call.inputs_embeds, torch.nan))


@pytest.mark.parametrize("at_token", [1, 4])
def test_row_that_makes_the_whole_step_raise_fails_and_the_others_finish(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch, at_token: int
) -> None:
    questions = MIXED[:4]
    asked = [question.ask(runner) for question in questions]
    culprit = Question(4, "bad", settings={"max_new_tokens": 20, "min_new_tokens": 20}).ask(runner)
    expected = [run_alone(runner, question.ask(runner)) for question in questions]
    step = runner.decoder.run

    def run(*args: Any, **kwargs: Any) -> Tensor:
        if any(culprit.sequence.prompt is prompt for prompt in in_batch):
            raise RuntimeError(SECRET)
        return step(*args, **kwargs)

    in_batch: list[Any] = []
    original = runner.step

    def noting(prompts: Any, first_row: int = 0) -> Any:
        is_bad = culprit.sequence.num_generated >= at_token
        in_batch[:] = prompts if is_bad else []
        try:
            return original(prompts, first_row)
        finally:
            in_batch.clear()

    monkeypatch.setattr(runner.decoder, "run", run)
    monkeypatch.setattr(runner, "step", noting)
    driven = Driven(runner, num_slots=5, chunk_tokens=8)
    driven.submit(asked[0], culprit, *asked[1:])
    driven.finish()
    require_nothing_left(driven)
    assert isinstance(culprit.end, ModelFailed)
    assert SECRET not in str(culprit.end)
    assert len(culprit.token_ids) == at_token
    for one, alone in zip(asked, expected, strict=True):
        require_same(one, alone)


def test_prompt_that_fails_while_it_is_read_leaves_the_others_running(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, culprit, last = (question.ask(runner) for question in (MIXED[0], MIXED[2], MIXED[3]))
    original = runner.read

    def read(prompt: Any, row: int, start: int, stop: int) -> Any:
        if prompt is culprit.sequence.prompt and start > 8:
            raise RuntimeError(SECRET)
        return original(prompt, row, start, stop)

    monkeypatch.setattr(runner, "read", read)
    driven = drive(runner, [(0, first), (0, culprit), (1, last)])
    require_nothing_left(driven)
    assert isinstance(culprit.end, ModelFailed)
    for one, question in ((first, MIXED[0]), (last, MIXED[3])):
        require_same(one, run_alone(runner, question.ask(runner)))


@pytest.mark.parametrize("ends", ["by itself", "stopped"])
def test_row_whose_last_keys_were_not_finite_is_clean_for_the_next(runner: ModelRunner, ends: str) -> None:
    """Attention gives what is masked the weight 0, and 0 times not-a-number is none."""
    questions = MIXED[0], MIXED[3]
    long, short = (question.ask(runner) for question in questions)
    bad = Question(1, LONG).ask(runner)
    driven = Driven(runner, num_slots=2, chunk_tokens=16)
    driven.submit(long)
    driven.step(3)
    driven.submit(bad)
    spoil_embeddings(bad)
    driven.step(1 if ends == "stopped" else 3)
    bad.sequence.stop(Cancelled("no longer wanted"))
    driven.step()
    assert isinstance(bad.end, Cancelled if ends == "stopped" else ModelFailed)
    driven.submit(short)
    driven.finish()
    for one, question in zip((long, short), questions, strict=True):
        require_same(one, run_alone(runner, question.ask(runner)))


def test_new_row_that_cannot_be_filled_fails_its_own_sequence_only(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, culprit = (question.ask(runner) for question in (MIXED[0], MIXED[2]))
    original = runner.begin

    def begin(prompt: Any, row: int) -> int:
        if row == 1:
            raise RuntimeError(SECRET)
        return original(prompt, row)

    monkeypatch.setattr(runner, "begin", begin)
    require_nothing_left(drive(runner, [(0, first), (1, culprit)]))
    assert isinstance(culprit.end, ModelFailed)
    require_same(first, run_alone(runner, MIXED[0].ask(runner)))


def test_row_that_moves_into_one_whose_keys_were_not_finite_is_clean(runner: ModelRunner) -> None:
    questions = MIXED[5], MIXED[0], MIXED[3]  # the longest fails, and the last, which is short, gets its row
    bad, long, short = (question.ask(runner) for question in questions)
    driven = Driven(runner, num_slots=3, chunk_tokens=200)
    driven.submit(bad, long, short)
    driven.step(2)
    slots = driven.scheduler.slots
    assert slots.decoding == [bad.sequence, long.sequence, short.sequence]
    bad_length = bad.sequence.num_prompt_tokens
    for layer in runner.kv.cache.layers:
        layer.keys[0, :, :bad_length] = layer.values[0, :, :bad_length] = torch.nan
    driven.step()
    assert isinstance(bad.end, ModelFailed)
    assert slots.decoding == [short.sequence, long.sequence]
    driven.finish()
    for one, question in zip((long, short), questions[1:], strict=True):
        require_same(one, run_alone(runner, question.ask(runner)))
