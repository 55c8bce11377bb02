"""What is predicted from measurements: means that no outlier carries off, corrections that come back, and retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.engine.admission import Mean, Others, Pace, queue_full, retry_after_s, too_late, wait_s
from wire.errors import Overloaded

POSITIVE = st.floats(1e-4, 1e3)


def warm(*, lateness: float = 1.0, requests: int = 20) -> Pace:
    """30 ms per request: 10 of preparing, 12 of reading, and 4 tokens; alone it takes 42."""
    pace = Pace()
    for _ in range(requests):
        pace.prepared(1, 0.01)
        pace.prefill_chunk(100, 0.012, 0)
        pace.decode_step(2, 0.009)
        pace.answered("", 100, 4, 3 * 0.005)
        pace.ended(1.0, lateness)
    return pace


def test_request_takes_its_own_steps_and_holds_others_up_by_its_part_of_the_batch() -> None:
    pace = warm()
    assert pace.own_s(4) == pytest.approx(0.01 + 0.012 + 4 * 0.005)
    assert pace.work_s(4) == pytest.approx(0.012 + 4 * 0.0045)


def test_where_preparing_is_slower_than_stepping_it_is_what_others_wait_for() -> None:
    pace = warm()
    for _ in range(100):
        pace.prepared(1, 0.5)
    assert pace.work_s(4) == pytest.approx(0.5, rel=0.01)


def test_answer_is_as_long_as_answers_are_within_what_it_may_have() -> None:
    pace = warm()
    assert [pace.likely_tokens("", *bounds) for bounds in ((0, 256), (0, 2), (16, 256))] == [4, 2, 16]


def test_one_stalled_step_is_no_new_pace() -> None:
    pace = warm()
    before = pace.own_s(4)
    pace.prefill_chunk(100, 60.0, 0)
    assert pace.own_s(4) < 2 * before


@given(st.lists(POSITIVE, max_size=30), POSITIVE)
def test_mean_comes_back_from_whatever_was_measured(history: list[float], truth: float) -> None:
    mean = Mean()
    for measured in history:
        mean.add(measured)
    for _ in range(200):
        mean.add(truth)
    assert mean.value == pytest.approx(truth, rel=0.05)


@given(st.lists(st.tuples(POSITIVE, POSITIVE, st.booleans()), max_size=30))
def test_correction_comes_back_whatever_was_wrong_before(history: list[tuple[float, float, bool]]) -> None:
    pace = Pace()
    for predicted_s, took_s, is_late in history:
        pace.ended(predicted_s, took_s, is_late=is_late)
    for _ in range(200):
        pace.ended(1.0, 1.5)
    assert pace.corrected(1.0, has_margin=True) == pytest.approx(1.5, rel=0.1)


def test_scatter_of_the_lateness_is_kept_free() -> None:
    steady, unsteady = warm(), warm()
    for index in range(100):
        unsteady.ended(1.0, 1.5 if index % 2 else 0.5)
    assert unsteady.corrected(1.0, has_margin=False) == pytest.approx(1.0, abs=0.1)
    assert unsteady.corrected(1.0, has_margin=True) > 1.5
    assert steady.corrected(1.0, has_margin=True) == pytest.approx(1.0)


def test_request_that_ran_out_of_time_counts_as_late_and_never_as_early() -> None:
    pace = warm()
    pace.ended(1.0, 0.5, is_late=True)
    assert pace.lateness.value == pytest.approx(1.0)
    pace.ended(1.0, 3.0, is_late=True)
    assert pace.lateness.value > 1.0


def test_long_answers_that_ran_out_of_time_are_not_forgotten() -> None:
    pace = warm()
    for _ in range(20):
        pace.cut_off("", 40, 40 * 0.02)
        pace.cut_off("", 1, 0.02)
    assert pace.num_tokens.value > 20
    assert pace.token_gap_s.value > 0.015


def test_other_tenants_delay_one_by_their_share_and_no_more_than_they_have() -> None:
    flood, little, heavy = Others(100.0, 1.0), Others(0.5, 1.0), Others(100.0, 3.0)
    assert wait_s(0.0, 1.0, 1.0, []) == 0.0
    assert wait_s(0.0, 1.0, 1.0, [flood]) == 1.0
    assert wait_s(2.0, 1.0, 1.0, [flood, little]) == 2.0 + 3.0 + 0.5
    assert wait_s(0.0, 1.0, 1.0, [heavy]) == 3.0
    assert wait_s(0.0, 1.0, 2.0, [flood]) == 0.5


def test_refusal_says_both_times_and_spreads_those_who_come_back() -> None:
    assert too_late(1.0, 1.0, 0.5) is None
    refused = [too_late(3.0, 1.0, spread) for spread in (0.0, 0.5, 1.0)]
    assert all(isinstance(one, Overloaded) for one in refused)
    assert [one.retry_after_s for one in refused if one] == [1.0, 2.0, 3.0]
    assert "about 3 s" in str(refused[0])
    assert "has 1 s" in str(refused[0])


@given(st.floats(0, 1e9), st.floats(0, 1))
def test_time_to_retry_is_within_reason(seconds: float, spread: float) -> None:
    assert 0.02 < retry_after_s(seconds, spread) <= 45
    assert queue_full(64, 0.0, 0.5).retry_after_s == 1.0
