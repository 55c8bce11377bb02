"""Two cloud processes that share a Redis, behind Envoy: an edge whose node dies goes on at the other one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from bench.faulty.cloud import Cloud, running
from bench.faulty.sabotage import Sabotage
from bench.faulty.store import own_redis
from bench.readings import Metrics, read_metrics
from cleave import AsyncEdgeNode
from tests.kit.envoys import envoy
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

pytestmark = pytest.mark.slow

QUESTION = "what is this?"
LIMIT_S = 60.0
LONG = {"split": 2, "codec": "raw", "max_new_tokens": 100, "min_new_tokens": 100}


def metrics(cloud: Cloud) -> Metrics:
    with grpc.insecure_channel(cloud.address) as channel:
        return read_metrics(pb_grpc.InferenceStub(channel).Metrics(pb.MetricsRequest()).exposition)


def test_edge_whose_node_is_killed_in_mid_answer_goes_on_at_the_other_with_the_same_tokens(
    tiny_checkpoint: Path, tiny_bundle: Path, edges: Path, pictures: list[Path], tmp_path: Path
) -> None:
    def ask(edge: AsyncEdgeNode, number: int, question: str = QUESTION, picture: int = 0):  # type: ignore[no-untyped-def]
        # A stop string that is never said makes it another answer to the cache.
        return edge.ask(question, pictures[picture], stop=[f"(never said: {number})"], **LONG)  # type: ignore[arg-type]

    async def run(nodes: list[Cloud]) -> None:
        async with (
            envoy([node.address for node in nodes], tmp_path) as address,
            AsyncEdgeNode(address, bundles=edges) as edge,
        ):
            expected = await ask(edge, 0).text()
            before = [metrics(node) for node in nodes]
            (own,) = [index for index, one in enumerate(before) if one["cleave_streams_open"]]
            answer = ask(edge, 1)
            texts = aiter(answer)
            beginning = "".join([await anext(texts) for _ in range(5)])
            await asyncio.to_thread(nodes[own].kill)
            assert beginning + "".join([text async for text in texts]) == expected
            assert answer.report.num_resumed
            assert answer.report.cache == "features"  # the first node had kept them in Redis
            other = metrics(nodes[1 - own])
            assert other["cleave_decode_tokens_total"] >= 99  # it computed the answer itself
            # Of what the dead node had answered, nothing is computed again, and nothing uploaded.
            repeated = ask(edge, 0)
            assert await repeated.text() == expected
            assert (repeated.report.cache, repeated.report.uploaded_bytes) == ("answer", 0)
            again = ask(edge, 0, "and what colour?")
            await again.text()
            assert (again.report.cache, again.report.uploaded_bytes) == ("features", 0)

    slow = Sabotage(step_s=0.01)
    with own_redis() as redis, ExitStack() as stack:
        options = ("--cache-mb", "64", "--redis", redis.url)
        pair = [running(str(tiny_checkpoint), tiny_bundle, *options, sabotage=slow) for _ in range(2)]
        with ThreadPoolExecutor() as pool:  # most of a start is waiting for the disk
            nodes = list(pool.map(stack.enter_context, pair))
        asyncio.run(asyncio.wait_for(run(nodes), LIMIT_S))
