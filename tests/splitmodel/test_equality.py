"""When two runs gave the same tokens: the tie rule at its edges."""

from __future__ import annotations

import numpy as np
import pytest

from splitmodel.equality import compare

_ERROR = 2.0**-16  # exact in float32, and well under 1e-4
_GAP = 10 * _ERROR
_THIRD = -(2.0**-6)


def logits(*rows: tuple[float, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(rows, dtype=np.float32)


def compared_at_a_gap(gap: float, error: float) -> tuple[bool, bool]:
    """Tokens 0 and 1 differ at once; the reference's top-2 gap and the largest error are as given."""
    result = compare([0], [1], logits((gap, 0.0, _THIRD)), logits((gap, 0.0, _THIRD + error)))
    assert result.first_difference == 0
    assert result.max_logit_error == pytest.approx(error, rel=1e-4)
    return result.is_tie, result.is_accepted


def test_equal_tokens_are_equal_whatever_their_logits() -> None:
    result = compare([1, 1], [1, 1], logits((0, 1), (0, 1)), logits((0, 3), (0, 1)))
    assert (result.is_equal, result.is_tie, result.is_accepted) == (True, False, True)
    assert (result.num_tokens, result.max_logit_error, result.first_difference) == (2, 2.0, None)


def test_gap_under_ten_times_the_error_is_a_tie() -> None:
    assert compared_at_a_gap(_GAP * 0.999, _ERROR) == (True, True)


def test_gap_of_ten_times_the_error_is_a_difference() -> None:
    assert compared_at_a_gap(_GAP, _ERROR) == (False, False)
    assert compared_at_a_gap(_GAP * 1.001, _ERROR) == (False, False)


def test_error_of_a_ten_thousandth_is_no_tie_however_small_the_gap() -> None:
    assert compared_at_a_gap(0.0, 0.99e-4) == (True, True)
    assert compared_at_a_gap(0.0, 1.01e-4) == (False, False)


def test_difference_without_any_logit_error_is_no_tie() -> None:
    assert compared_at_a_gap(0.0, 0.0) == (False, False)


def test_logits_after_the_first_difference_do_not_count() -> None:
    reference = logits((_GAP / 2, 0.0, _THIRD), (5, 0, 0))
    result = compare([0, 0], [1, 2], reference, logits((_GAP / 2, 0.0, _THIRD + _ERROR), (0, 0, 50)))
    assert result.is_tie
    assert result.max_logit_error == pytest.approx(_ERROR)


def test_gap_is_that_of_the_first_difference() -> None:
    reference = logits((5, 0, _THIRD), (_GAP / 2, 0.0, _THIRD))
    result = compare([0, 0], [0, 1], reference, reference + np.float32(_ERROR))
    assert (result.first_difference, result.is_tie) == (1, True)
    result = compare([0, 0], [1, 0], reference, reference + np.float32(_ERROR))
    assert (result.first_difference, result.is_tie) == (0, False)


@pytest.mark.parametrize(("reference", "tokens"), [([0, 0], [0]), ([0], [0, 0]), ([0], []), ([], [0])])
def test_missing_token_is_a_difference_and_never_a_tie(reference: list[int], tokens: list[int]) -> None:
    near = np.tile(logits((_GAP / 2, 0.0, _THIRD)), (2, 1))
    result = compare(reference, tokens, near[: len(reference)], near[: len(tokens)] + np.float32(_ERROR))
    assert not result.is_accepted
    assert result.first_difference == min(len(reference), len(tokens))


def test_two_empty_answers_are_equal() -> None:
    assert compare([], [], np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).is_equal


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_number_lost_on_one_side_is_an_infinite_error_and_no_tie(bad: float) -> None:
    result = compare([0], [1], logits((_GAP / 2, 0.0, _THIRD)), logits((_GAP / 2, _ERROR, bad)))
    assert result.max_logit_error == np.inf
    assert not result.is_accepted


def test_token_that_both_sides_forbid_is_no_error() -> None:
    result = compare([0], [0], logits((1, 0, -np.inf)), logits((1, 0, -np.inf)))
    assert result.max_logit_error == 0
