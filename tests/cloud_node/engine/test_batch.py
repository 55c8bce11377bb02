"""Batched equals alone, token for token, whoever comes and goes; with the real model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from cloud_node.asked.sequence import FinishReason
from cloud_node.model.runner import ModelRunner
from cloud_node.model.serving import serve
from splitmodel.loading import load
from splitmodel.media import MediaInput
from tests.cloud_node.engine.questions import (
    COLOURS,
    LONG,
    MIXED,
    Question,
    drive,
    require_nothing_left,
    require_same,
)
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


def with_stop_string(runner: ModelRunner, question: Question) -> Question:
    """The question with a stop string out of the middle of its own answer."""
    text = run_alone(runner, question.ask(runner)).text
    middle = len(text) // 2
    return replace(question, settings={**question.settings, "stop": (text[middle : middle + 3],)})


def raise_at_token(asked: Asked, index: int) -> None:
    prompt: Any = asked.sequence.prompt

    def processor(_: Tensor, scores: Tensor) -> Tensor:
        if prompt.choice.num_chosen == index:
            raise ValueError(SECRET)
        return scores

    prompt.choice.processors.append(processor)


def test_sixteen_that_come_and_go_get_the_tokens_that_each_gets_alone(runner: ModelRunner) -> None:
    questions = [
        *MIXED,
        with_stop_string(runner, Question(3, "what is there?", settings={"max_new_tokens": 24})),
    ]
    asked = [(question.at_step, question.ask(runner)) for question in questions]
    cancelled = Question(4, "things?", split=2, settings={"max_new_tokens": 200, "min_new_tokens": 200}).ask(
        runner
    )
    spoiled = Asked(runner, Image.new("RGB", (48, 48)), split=4, fill=float("nan"))
    raising = Question(1, "red?", split=1, settings={"max_new_tokens": 30, "min_new_tokens": 30}).ask(runner)

    driven = Driven(runner, num_slots=4, chunk_tokens=8)
    driven.submit(cancelled, asked[0][1], raising)
    raise_at_token(raising, 5)
    for step in range(16):
        driven.submit(*(one for at, one in asked[1:] if at == step), *([spoiled] if step == 3 else []))
        driven.step()
        if len(cancelled.token_ids) == 6:
            cancelled.sequence.stop(Cancelled("no longer wanted"))
    driven.finish()

    require_nothing_left(driven)
    assert isinstance(cancelled.end, Cancelled)
    assert 6 <= len(cancelled.token_ids) < 200
    assert isinstance(spoiled.end, ModelFailed)
    assert isinstance(raising.end, ModelFailed)
    assert SECRET not in str(raising.end)
    assert len(raising.token_ids) == 5
    reasons = set()
    for question, (_, one) in zip(questions, asked, strict=True):
        require_same(one, run_alone(runner, question.ask(runner)))
        reasons.add(one.finished.reason)
    assert {FinishReason.LENGTH, FinishReason.STOP_STRING} <= reasons
    assert len({tuple(one.token_ids) for _, one in asked}) == len(asked), "answers ignore their inputs"


@pytest.mark.parametrize("num_slots", [1, 3, 13])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 256])
def test_tokens_depend_neither_on_slots_nor_on_chunks(
    runner: ModelRunner, num_slots: int, chunk_tokens: int
) -> None:
    picked = MIXED[1:9:2]
    asked = [(question.at_step, question.ask(runner)) for question in picked]
    require_nothing_left(drive(runner, asked, num_slots=num_slots, chunk_tokens=chunk_tokens))
    for question, (_, one) in zip(picked, asked, strict=True):
        require_same(one, run_alone(runner, question.ask(runner)))


@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_greedy_tokens_are_those_of_the_whole_model(runner: ModelRunner, colour: int) -> None:
    question = Question(colour, "what colour is it?", split=2 * colour, settings={"max_new_tokens": 40})
    asked = run_alone(runner, question.ask(runner))
    adapter = runner.preparer.adapter
    call = adapter.whole([MediaInput("image", question.picture)], question.prompt)
    whole = call.generate(do_sample=False, max_new_tokens=40)[0].tolist()
    assert asked.token_ids == whole[call.prompt_tokens :]


def test_all_that_are_stopped_in_every_state_leave_at_the_next_step(runner: ModelRunner) -> None:
    asked = [
        Question(0, LONG, settings={"max_new_tokens": 99, "min_new_tokens": 99}).ask(runner) for _ in range(5)
    ]
    driven = Driven(runner, num_slots=3, chunk_tokens=12)
    driven.submit(*asked)
    driven.step(4)
    slots = driven.scheduler.slots
    assert slots.decoding
    assert slots.prefilling is not None
    assert driven.scheduler.waiting
    for one in asked:
        one.sequence.stop(Cancelled("no longer wanted"))
    driven.step()
    require_nothing_left(driven)
    assert all(isinstance(one.end, Cancelled) for one in asked)
