"""Rates are of the window in which all decode; what is read of a cloud is what it says."""

import math

import pytest

from bench.load import Outcome, steady_tokens_per_s, tokens_per_s
from bench.readings import fit_line, mean_between, read_metrics


def _outcome(times: list[float], *, sent_s: float = 0.0) -> Outcome:
    arrivals = [(at, 1) for at in times]
    return Outcome("r", sent_s=sent_s, ended_s=times[-1], num_tokens=len(times), arrivals=arrivals)


def test_steady_rate_counts_from_the_last_first_token_to_the_first_last_one():
    early, late = _outcome([0.0, 1.0, 2.0, 3.0]), _outcome([1.0, 2.0, 3.0, 4.0])
    assert steady_tokens_per_s([early, late]) == pytest.approx(2.0)  # two each in (1, 3]


def test_steady_rate_of_requests_that_never_overlap_is_zero():
    assert steady_tokens_per_s([_outcome([0.0, 1.0]), _outcome([2.0, 3.0])]) == 0.0


def test_whole_rate_counts_from_the_first_sent_to_the_last_end():
    assert tokens_per_s([_outcome([1.0, 2.0], sent_s=0.0), _outcome([3.0, 4.0], sent_s=2.0)]) == 1.0


def test_line_through_points_on_a_line_has_its_slope_and_no_error():
    line = fit_line([(float(x), 3.0 * x + 1) for x in range(10)])
    assert line.slope == pytest.approx(3.0)
    assert line.standard_error == pytest.approx(0.0, abs=1e-9)


def test_standard_error_grows_with_the_scatter():
    def scattered(by: float) -> float:
        return fit_line([(float(x), by * (-1) ** x) for x in range(20)]).standard_error

    assert scattered(2.0) == pytest.approx(2 * scattered(1.0))


_EXPOSITION = """# TYPE size histogram
size_bucket{{le="1.0"}} 1
size_bucket{{le="+Inf"}} {count}
size_count {count}
size_sum {sum}
# TYPE ended counter
ended_total{{outcome="done"}} 2
ended_total{{outcome="cancelled"}} 3
"""


def test_metrics_are_added_up_over_labels():
    assert read_metrics(_EXPOSITION.format(count=2, sum=5)) == {
        "size_count": 2, "size_sum": 5, "ended_total": 5,
    }  # fmt: skip


def test_mean_of_what_came_between_two_readings():
    before, after = (read_metrics(_EXPOSITION.format(count=c, sum=s)) for c, s in ((2, 5), (4, 13)))
    assert mean_between(before, after, "size") == 4.0
    assert math.isnan(mean_between(after, after, "size"))
