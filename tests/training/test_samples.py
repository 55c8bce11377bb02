"""Samples: one of every kind, each from a scene of its own, and only what the model answers."""

from __future__ import annotations

import pytest

from training.evaluate import Sample
from training.questions import KINDS
from training.samples import pick


def test_one_sample_of_every_kind() -> None:
    samples = pick(lambda _: True)
    assert tuple(sample.kind for sample in samples) == KINDS
    assert len({sample.image.tobytes() for sample in samples}) == len(KINDS)


def test_what_is_not_answered_is_passed_over() -> None:
    seen: list[Sample] = []

    def second_of_a_kind(sample: Sample) -> bool:
        seen.append(sample)
        return sum(one.kind == sample.kind for one in seen) == 2

    samples = pick(second_of_a_kind)
    assert [sample.question for sample in samples] == [one.question for one in seen[1::2]]


def test_a_model_that_answers_nothing_is_refused() -> None:
    with pytest.raises(SystemExit, match="train for longer"):
        pick(lambda _: False)
