"""Clouds, edges and links that die, hang, slow down and lie: time is lost, and no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faulty import breaks
from bench.faulty.scene import SHORT, Scene, scene
from bench.faulty.watched import Seen
from cleave import EdgeNode

pytestmark = pytest.mark.slow

# Every byte of a question's beginning, and then some: frames, headers, the Open, chunks; the answer.
FLIPS = [
    ("up", 7),
    ("up", 24),
    ("up", 200),
    ("up", 5_000),
    ("down", 2),
    ("down", 12),
    ("down", 60),
    ("down", 150),
]


def require_ok(seen: Seen) -> None:
    assert seen.is_ok, seen
    assert seen.saw.startswith("the whole answer"), seen


def test_killed_cloud_that_comes_back_costs_no_upload_and_no_answer(
    tiny_checkpoint: Path, tiny_bundle: Path, edges: Path, pictures: list[Path]
) -> None:
    with scene(str(tiny_checkpoint), tiny_bundle, edges, pictures) as made:
        for fault in (breaks.cloud_killed_in_mid_upload, breaks.cloud_killed_in_mid_answer):
            seen = fault(made)
            require_ok(seen)
            assert seen.num_resumed
            assert seen.recovered_s < 10


def test_edge_goes_on_with_another_cloud_at_its_second_address(lasting: Scene) -> None:
    seen = breaks.cloud_lost_for_another(lasting)
    require_ok(seen)
    assert seen.num_resumed


def test_killed_edge_leaves_nothing_and_costs_another_nothing(lasting: Scene) -> None:
    require_ok(breaks.edge_killed(lasting))


def test_link_that_is_cut_costs_a_moment(lasting: Scene) -> None:
    seen = breaks.link_cut(lasting)
    require_ok(seen)
    assert seen.num_resumed
    assert seen.recovered_s < 10


@pytest.mark.parametrize("fault", [breaks.link_stalled, breaks.cloud_hangs], ids=lambda fault: fault.__name__)
def test_silence_is_noticed_and_the_answer_goes_on(lasting: Scene, soon: None, fault: object) -> None:
    with EdgeNode(lasting.link.address, bundles=lasting.folder) as edge, lasting.with_edge(edge) as hurried:
        seen = fault(hurried)  # type: ignore[operator]
    require_ok(seen)
    assert seen.num_resumed


def test_link_of_a_kilobyte_per_second_gives_the_same_answer(lasting: Scene) -> None:
    require_ok(breaks.link_slow(lasting))


def test_flipped_bit_is_never_a_wrong_answer(lasting: Scene, soon: None) -> None:
    with EdgeNode(lasting.link.address, bundles=lasting.folder) as edge, lasting.with_edge(edge) as hurried:
        for way, after in FLIPS:
            seen = breaks.bit_flipped(hurried, way, after)
            assert not seen.num_wrong, (way, after, seen)
            assert seen.recovered_s < 15, (way, after, seen)
            following = hurried.ask(**SHORT).end()
            assert following.text == hurried.expected(**SHORT), (way, after, following.error)
    assert lasting.cloud.above(lasting.before) == {}
