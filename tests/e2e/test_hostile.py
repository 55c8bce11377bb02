"""A cloud process that is asked wrongly a thousand times in a row answers rightly afterwards, and has not grown."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cleave import EdgeNode
from cleave.processes import cloud_process
from tests.kit.clouds import served_from
from tests.kit.malformed import Asked, Hostile
from tests.kit.talking import opening
from wire.v1 import inference_pb2 as pb

pytestmark = pytest.mark.slow

WARM_UP, IN_A_ROW = 300, 1000
GROWTH_BYTES = 12 << 20
LIMIT_S = 20.0


def settled(measure: Callable[[], int], most: int) -> int:
    """What it is once it is at most that, or after a while: connections that were cut take a moment to go."""
    stop_s = time.monotonic() + LIMIT_S
    while (now := measure()) > most and time.monotonic() < stop_s:
        time.sleep(0.05)
    return now


def test_a_thousand_malformed_requests_then_a_right_answer(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, pictures: list[Path]
) -> None:
    served = served_from(tiny_bundle)
    asked = opening(served, "what?")
    asked.settings.MergeFrom(pb.GenerationSettings(max_new_tokens=2))
    with (
        cloud_process(str(tiny_checkpoint), tiny_bundle) as (address, process_id),
        EdgeNode(address, bundles=tmp_path) as edge,
    ):
        expected = edge.ask("what?", pictures[0], max_new_tokens=8).text()
        hostile = Hostile(address, Asked(asked, served.manifest.chains[0]), seed=3)
        cloud = psutil.Process(process_id)
        hostile.send(WARM_UP)
        num_files = settled(cloud.num_fds, cloud.num_fds())
        rss_bytes = cloud.memory_info().rss
        hostile.send(IN_A_ROW)
        assert settled(cloud.num_fds, num_files) <= num_files
        assert cloud.memory_info().rss - rss_bytes < GROWTH_BYTES
        assert edge.ask("what?", pictures[0], max_new_tokens=8).text() == expected
        assert edge.ask("what else?", pictures[1], max_new_tokens=8).text()
        hostile.close()
        # Most are refused as requests, on a stream that is right; the others are no stream.
        assert hostile.statuses["OK"] > IN_A_ROW / 2
        assert hostile.statuses["INVALID_ARGUMENT"] > IN_A_ROW / 20
