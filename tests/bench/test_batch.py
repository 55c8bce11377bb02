"""A difference is found, an ending that was another is counted, and parts of a step add up."""

import pytest

from bench.batch_exact import EXPIRES, FAILS, LEAVES, NUM_SEQUENCES, compare
from bench.batch_speed import parts_of
from bench.load import Outcome

_BAD = {LEAVES: "left", FAILS: "model_failed", EXPIRES: "deadline_exceeded"}


def _round(change: dict[str, list[int]] | None = None, **endings: str):
    together, alone, tokens = [], [], {}
    for index in range(NUM_SEQUENCES):
        name = f"together-{index}"
        ending = endings.get(name.replace("-", "_"), _BAD.get(index, "done"))
        together.append(
            Outcome(name, ending=ending, text="t", num_tokens=2, arrivals=[(index, 1), (index + 2, 1)])
        )
        tokens[name] = [7, index]
        if index not in _BAD:
            alone.append(Outcome(f"alone-{index}", ending="done", text="t", num_tokens=2))
            tokens[f"alone-{index}"] = [7, index]
    return compare([(together, alone)], tokens | (change or {}))


def test_equal_answers_are_equal():
    exact = _round()
    assert (exact.num_compared, exact.num_equal, exact.num_badly_meant) == (13, 13, 3)
    assert exact.most_at_once == 3


def test_one_other_token_is_a_difference_though_the_text_is_the_same():
    exact = _round({"together-0": [7, 99]})
    assert exact.num_equal == 12
    assert exact.differing == [{"request": "together-0", "ending": "done", "first_different": 1}]


def test_an_answer_that_failed_is_a_difference():
    assert _round(together_0="internal").num_equal == 12


def test_a_bad_ending_that_was_another_is_counted():
    assert _round(**{f"together_{FAILS}": "done"}).num_badly_meant == 2


def test_parts_of_a_step_add_up_to_it():
    inner = {"forward": 4.0, "sampling": 1.0, "runner": 6.0}
    service = {**inner, "decode": 8.0, "flush": 0.5, "text": 0.7, "step": 9.0, "between": 0.2}
    parts = {name: whole for name, (_, whole) in parts_of(inner, service).items()}
    assert sum(parts.values()) - parts["all of a step"] == pytest.approx(parts["all of a step"])
    assert parts["all of a step"] == pytest.approx(9.2)
