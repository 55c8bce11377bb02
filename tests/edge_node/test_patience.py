"""When a request is sent again: within its time, after growing waits, and not for errors that stay."""

from __future__ import annotations

import pytest

from edge_node.patience import Patience, Tries
from wire.errors import (
    BadInput,
    CleaveError,
    Corrupt,
    DeadlineExceeded,
    Denied,
    IncompatibleBundle,
    Internal,
    LimitReached,
    MalformedMessage,
    ModelFailed,
    Overloaded,
    Unavailable,
)


def wait(
    tries: Tries, error: CleaveError, now_s: float = 0.0, *, draw: float = 1.0, is_lost: bool = True
) -> float:
    return tries.wait_s(error, now_s, draw, is_lost=is_lost)


def test_waits_grow_up_to_a_bound_and_begin_anew_after_progress() -> None:
    tries = Tries(Patience(), None)
    waits = [wait(tries, Unavailable("gone")) for _ in range(7)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    tries.note_progress()
    assert wait(tries, Unavailable("gone"), 1.0) == 0.1


def test_devices_that_lost_one_cloud_do_not_come_back_together() -> None:
    waits = {wait(Tries(Patience(), None), Unavailable("gone"), draw=draw / 10) for draw in range(11)}
    assert len(waits) == 11
    assert max(waits) / min(waits) == pytest.approx(2)


def test_lost_connection_is_given_up_so_long_after_it_was_lost() -> None:
    tries = Tries(Patience(reconnect_s=10), None)
    wait(tries, Unavailable("gone"), 100.0)  # whoever reads slowly notices late
    wait(tries, Unavailable("gone"), 109.0)
    tries.note_progress()
    wait(tries, Unavailable("gone"), 119.0)
    wait(tries, Unavailable("gone"), 128.0)
    with pytest.raises(Unavailable, match="gone"):
        wait(tries, Unavailable("gone"), 129.0)


def test_without_patience_nothing_is_tried_again() -> None:
    with pytest.raises(Unavailable):
        wait(Tries(Patience(reconnect_s=0), None), Unavailable("gone"))


def test_deadline_ends_trying() -> None:
    tries = Tries(Patience(), 5.0)
    assert tries.left_s(2.0) == 3.0
    wait(tries, Unavailable("gone"), 4.0)
    with pytest.raises(DeadlineExceeded, match="gone"):
        wait(tries, Unavailable("gone", retry_after_s=2.0), 4.0)


def test_cloud_that_says_when_is_asked_then_and_not_before() -> None:
    tries = Tries(Patience(), None)
    assert wait(tries, Unavailable("draining", retry_after_s=4.0), draw=0.0) == 4.0
    assert wait(tries, Unavailable("draining", retry_after_s=4.0), draw=1.0) == 5.0


@pytest.mark.parametrize("error", [Overloaded, LimitReached])
def test_busy_cloud_is_waited_for_only_where_that_is_wanted(error: type[CleaveError]) -> None:
    patient = Tries(Patience(waits_when_busy=True), None)
    assert wait(patient, error("full", retry_after_s=1.0), draw=0.0, is_lost=False) == 1.0
    with pytest.raises(error):
        wait(patient, error("full"), is_lost=False)
    with pytest.raises(error):
        wait(Tries(Patience(), None), error("full", retry_after_s=1.0), is_lost=False)


@pytest.mark.parametrize("error", [BadInput, ModelFailed, Internal, MalformedMessage, DeadlineExceeded])
def test_request_that_failed_is_not_sent_again(error: type[CleaveError]) -> None:
    with pytest.raises(error):
        wait(Tries(Patience(), None), error("no"), is_lost=False)


@pytest.mark.parametrize("error", [Denied, IncompatibleBundle])
def test_cloud_that_refuses_the_edge_is_not_asked_again(error: type[CleaveError]) -> None:
    with pytest.raises(error):
        wait(Tries(Patience(), None), error("no"))


@pytest.mark.parametrize(("error", "is_lost"), [(Corrupt, False), (Internal, True), (MalformedMessage, True)])
def test_stream_that_always_ends_in_an_odd_way_is_given_up_soon(
    error: type[CleaveError], is_lost: bool
) -> None:
    tries = Tries(Patience(), None)
    for _ in range(3):
        wait(tries, error("odd"), is_lost=is_lost)
    with pytest.raises(error, match="odd"):
        wait(tries, error("odd"), is_lost=is_lost)


def test_patience_below_zero_is_refused() -> None:
    with pytest.raises(BadInput, match="reconnect_s"):
        Patience(reconnect_s=-1)
