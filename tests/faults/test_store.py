"""A Redis that dies, hangs or forgets costs hits, and no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faulty import store
from bench.faulty.scene import scene

pytestmark = pytest.mark.slow


def test_redis_that_dies_hangs_or_forgets_costs_hits_and_no_answer(
    tiny_checkpoint: Path, tiny_bundle: Path, edges: Path, pictures: list[Path]
) -> None:
    with (
        store.own_redis() as redis,
        scene(
            str(tiny_checkpoint), tiny_bundle, edges, pictures, "--cache-mb", "64", "--redis", redis.url
        ) as made,
    ):
        questions = store.Questions(made)
        questions.settle()
        made.settle()
        for fault in (store.redis_killed, store.redis_paused, store.redis_restarted_empty):
            seen = fault(questions, redis)
            assert seen.is_ok, seen
            assert "whole answers" in seen.saw
