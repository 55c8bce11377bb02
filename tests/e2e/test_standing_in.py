"""Features of one split point that stand in for another's, through real processes: the whole model's own answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cleave import EdgeNode
from cleave.processes import cloud_process
from tests.kit.redis_servers import redis_server

pytestmark = pytest.mark.slow

NUM_TOKENS = 24


def test_stored_features_answer_questions_at_other_split_points_and_of_other_codecs(
    tiny_checkpoint: Path,
    tiny_bundle: Path,
    cache: Path,
    pictures: list[Path],
    whole_answer: Callable[[Path, str, int], str],
) -> None:
    with (
        redis_server() as redis,
        cloud_process(str(tiny_checkpoint), tiny_bundle, "--redis", redis.url) as (address, _),
        EdgeNode(address, bundles=cache / "bundles") as edge,
    ):
        expected = {
            question: [whole_answer(picture, question, NUM_TOKENS) for picture in pictures]
            for question in ("what colour?", "how many?", "where?")
        }
        first, *others = expected
        assert all(len(set(answers)) == len(pictures) for answers in expected.values())
        got = [
            edge.ask(first, picture, split=2, codec="raw", max_new_tokens=NUM_TOKENS).text()
            for picture in pictures
        ]
        assert got == expected[first]
        for question, (split, codec) in zip(others, ((6, "raw+zstd"), (0, "jpeg:50")), strict=True):
            for picture, answer in zip(pictures, expected[question], strict=True):
                asked = edge.ask(
                    question, picture, split=split, codec=codec, hash_first=True, max_new_tokens=NUM_TOKENS
                )
                # Of a JPEG at quality 50 it would not be, bit for bit: what stands in is the picture itself.
                assert asked.text() == answer
                assert (asked.report.cache, asked.report.uploaded_bytes) == ("features", 0)
