"""Full disks, models that raise, peers that do not read and clocks that jump: one clear error, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faulty import devices
from bench.faulty.scene import Scene

pytestmark = pytest.mark.slow


def test_full_disk_is_one_clear_error_leaves_no_half_file_and_the_next_fetch_works(
    lasting: Scene, tmp_path: Path
) -> None:
    seen = devices.disk_full(lasting, tmp_path)
    assert seen.is_ok, seen
    assert "cannot keep" in seen.saw
    assert "CLEAVE_CACHE" in seen.saw


def test_stage_that_fails_is_the_devices_own_error_and_another_arm_does_without_it(
    lasting: Scene, tmp_path: Path
) -> None:
    seen = devices.head_fails(lasting, tmp_path / "edge")
    assert seen.is_ok, seen
    assert "stage 0 failed on this device" in seen.saw


def test_tail_that_raises_fails_its_request_alone(lasting: Scene) -> None:
    seen = devices.tail_raises(lasting)
    assert seen.is_ok, seen
    assert "the others go on" in seen.saw


def test_client_that_never_reads_costs_the_others_nothing_and_leaves_nothing(lasting: Scene) -> None:
    seen = devices.client_never_reads(lasting)
    assert seen.is_ok, seen
    assert seen.saw.startswith("the whole answer")


def test_clock_that_jumps_ends_no_request(lasting: Scene, clock: Path) -> None:
    seen = devices.clock_jumps(lasting, clock)
    assert seen.is_ok, seen
    assert seen.saw.startswith("the whole answer")
