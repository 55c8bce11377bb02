"""Limits of tenants: what is said of when to come back is exact, uploads wait, and one tenant's use is no other's."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.access.quotas import BURST_S, MAX_PAUSE_S, Bucket, Quotas
from cloud_node.asked.tenants import ANYBODY, Tenant, TenantLimits
from wire.errors import LimitReached


def tenant(name: str = "acme", **limits: Any) -> Tenant:
    return Tenant(name, limits=TenantLimits(**limits))


def refusal(quotas: Quotas, who: Tenant, now_s: float) -> LimitReached:
    with pytest.raises(LimitReached) as refused:
        quotas.admit(who, now_s)
    return refused.value


@given(
    st.floats(0.01, 1e6),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e6)), max_size=20),
    st.floats(0.01, 1e6),
)
def test_after_the_wait_it_is_there_and_just_before_it_is_not(
    rate: float, used: list[tuple[float, float]], amount: float
) -> None:
    bucket, now_s = Bucket(rate, 1.0, 0.0), 0.0
    for passed_s, taken in used:
        now_s += passed_s
        bucket.take(taken, now_s)
    wait_s = bucket.wait_s(amount, now_s)
    if wait_s > 1e-3:
        assert bucket.wait_s(amount, now_s + 0.99 * wait_s) > 0
    assert bucket.wait_s(amount, now_s + wait_s * (1 + 1e-9)) == 0


@given(st.floats(0.5, 100), st.lists(st.floats(0, 0.5), min_size=50, max_size=50))
def test_no_more_requests_than_the_rate_and_one_burst_get_in(rate: float, gaps_s: list[float]) -> None:
    quotas, who, now_s, admitted = Quotas(), tenant(requests_per_s=rate), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        try:
            quotas.admit(who, now_s)
            admitted += 1
        except LimitReached:
            pass
    assert admitted <= max(1.0, rate * BURST_S) + rate * now_s + 1e-6


def test_requests_over_the_rate_are_told_the_limit_and_when_to_come_back() -> None:
    quotas, who = Quotas(), tenant(requests_per_s=2)
    quotas.admit(who, 10.0)
    quotas.admit(who, 10.0)
    error = refusal(quotas, who, 10.1)
    assert str(error) == "tenant acme has reached its limit of 2 requests/s; come back in 0.4 s"
    assert error.retry_after_s == pytest.approx(0.4)
    quotas.admit(who, 10.1 + error.retry_after_s)
    assert quotas.refused() == {("acme", "requests_per_s"): 1}


def test_a_slow_rate_lets_one_whole_request_in() -> None:
    quotas, who = Quotas(), tenant(requests_per_s=0.1)
    quotas.admit(who, 0.0)
    assert refusal(quotas, who, 0.0).retry_after_s == pytest.approx(10)


def test_tokens_may_be_owed_and_the_next_request_waits_for_them() -> None:
    quotas, who = Quotas(), tenant(tokens_per_s=10)
    quotas.admit(who, 0.0)
    quotas.told(who.name, 60, 0.0)
    error = refusal(quotas, who, 1.0)
    assert "10 tokens/s" in str(error)
    assert error.retry_after_s == pytest.approx(4.1)  # 40 are owed, and one must be there
    quotas.admit(who, 5.1)


def test_of_several_limits_the_one_that_takes_longest_is_told() -> None:
    quotas, who = Quotas(), tenant(requests_per_s=1, tokens_per_s=1)
    quotas.admit(who, 0.0)
    quotas.told(who.name, 31, 0.0)
    error = refusal(quotas, who, 0.0)
    assert "tokens/s" in str(error)
    assert error.retry_after_s == pytest.approx(31)


def test_a_refused_request_uses_nothing() -> None:
    quotas, who = Quotas(), tenant(requests_per_s=1)
    quotas.admit(who, 0.0)
    for _ in range(100):
        refusal(quotas, who, 0.5)
    quotas.admit(who, 1.0)


def test_an_upload_is_held_back_to_its_rate() -> None:
    quotas, who, now_s = Quotas(), tenant(bytes_per_s=1000), 0.0
    quotas.admit(who, now_s)
    for _ in range(100):
        now_s += quotas.received(who.name, 500, now_s)
    assert now_s == pytest.approx(50 - BURST_S)


def test_an_upload_waits_for_a_bounded_time_and_a_new_request_is_refused_meanwhile() -> None:
    quotas, who = Quotas(), tenant(bytes_per_s=1000)
    quotas.admit(who, 0.0)
    assert quotas.received(who.name, 21_000, 0.0) == MAX_PAUSE_S
    error = refusal(quotas, who, 0.0)
    assert "1,000 bytes/s" in str(error)
    assert error.retry_after_s == pytest.approx(20 - MAX_PAUSE_S)
    quotas.admit(who, 20 - MAX_PAUSE_S)
    assert quotas.received(who.name, 0, 17.0) == pytest.approx(3.0)


def test_streams_are_counted_while_they_are_open() -> None:
    quotas, who = Quotas(), tenant(streams=2)
    with ExitStack() as streams:
        for _ in range(2):
            streams.enter_context(quotas.stream(who, 0.0))
        with pytest.raises(LimitReached, match="2 streams open, and its limit is 2") as refused:
            streams.enter_context(quotas.stream(who, 0.0))
        assert refused.value.retry_after_s is not None
        assert quotas.streams() == {("acme",): 2}
    with quotas.stream(who, 0.0):
        assert quotas.streams() == {("acme",): 1}


def test_one_tenants_use_is_no_others() -> None:
    quotas = Quotas()
    first, second = tenant("first", requests_per_s=1), tenant("second", requests_per_s=1)
    quotas.admit(first, 0.0)
    quotas.admit(second, 0.0)
    refusal(quotas, first, 0.0)
    assert quotas.counted("requests") == {("first",): 1, ("second",): 1}


def test_without_limits_everything_is_let_in_and_counted() -> None:
    quotas = Quotas()
    for _ in range(1000):
        quotas.admit(ANYBODY, 0.0)
        quotas.told(ANYBODY.name, 1000, 0.0)
        assert quotas.received(ANYBODY.name, 1 << 30, 0.0) == 0
    assert quotas.counted("tokens") == {("",): 1_000_000}


def test_new_limits_hold_at_once() -> None:
    quotas = Quotas()
    quotas.admit(tenant(requests_per_s=1), 0.0)
    assert refusal(quotas, tenant(requests_per_s=1), 0.0).retry_after_s == pytest.approx(1)
    assert refusal(quotas, tenant(requests_per_s=5), 0.0).retry_after_s == pytest.approx(0.2)
    quotas.admit(tenant(requests_per_s=5), 0.2)
    quotas.admit(tenant(), 0.2)
    assert quotas.counted("requests") == {("acme",): 3}


def test_what_is_owed_stays_owed_when_limits_change() -> None:
    quotas, before, after = Quotas(), tenant(tokens_per_s=10), tenant(tokens_per_s=20)
    quotas.admit(before, 0.0)
    quotas.told("acme", 60, 0.0)
    assert refusal(quotas, after, 0.0).retry_after_s == pytest.approx((50 + 1) / 20)
    # What a request says that began under the old limits brings them back no more, and fills nothing.
    quotas.told("acme", 20, 0.0)
    assert refusal(quotas, after, 0.0).retry_after_s == pytest.approx((70 + 1) / 20)


def test_lower_limits_leave_no_more_than_fits() -> None:
    quotas = Quotas()
    quotas.admit(tenant(requests_per_s=100), 0.0)
    for _ in range(2):
        quotas.admit(tenant(requests_per_s=2), 0.0)
    refusal(quotas, tenant(requests_per_s=2), 0.0)


def test_a_clock_that_goes_back_neither_fills_nor_empties() -> None:
    quotas, who = Quotas(), tenant(requests_per_s=1)
    quotas.admit(who, 100.0)
    assert refusal(quotas, who, 0.0).retry_after_s == pytest.approx(1)
    quotas.admit(who, 101.0)


def test_state_is_bounded_and_who_has_a_stream_is_not_forgotten() -> None:
    quotas = Quotas(max_tenants=3)
    with quotas.stream(tenant("busy", streams=1), 0.0):
        for index in range(100):
            quotas.admit(tenant(f"t{index}"), 0.0)
        assert len(quotas.streams()) == 3
        with pytest.raises(LimitReached), quotas.stream(tenant("busy", streams=1), 0.0):
            pass
