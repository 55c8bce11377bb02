"""What edges that upload a lot at once make a real cloud process hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloud_node.asked.served import Served
from tests.kit.cloud_program import fake_cloud_process
from tests.kit.clouds import settle
from tests.kit.talking import Talk, chunk, opening, talk
from wire.limits import KIB, MIB
from wire.v1 import inference_pb2 as pb

NUM_EDGES, NUM_REQUESTS = 6, 5
REQUEST_BYTES, HELD_BYTES = 4 * MIB, 24 * MIB
# Of gRPC's windows and buffers, and of what Python's allocator keeps.
SLACK_BYTES = 24 * MIB
PIECE = bytes(range(256)) * 256


def photo_opening(served: Served, request_id: str) -> pb.Open:
    """A file at split point 0: of any size, as far as the cloud can tell."""
    item = pb.Input(
        modality=pb.MODALITY_IMAGE, image=pb.ImageSize(width=64, height=48), codec_id="jpeg", setting="90",
        total_bytes=REQUEST_BYTES,
    )  # fmt: skip
    return opening(served, "hi", request_id=request_id, inputs=[item])


async def uploads(t: Talk, served: Served) -> int:
    """All but the last chunk of many requests, whatever the cloud says; how many of them it wanted."""
    await t.welcomed()
    names = [f"r{number}" for number in range(NUM_REQUESTS)]
    for name in names:
        await t.say(open=photo_opening(served, name))
    wanted = 0
    for _ in names:
        while (kind := (await t.next()).WhichOneof("message")) not in ("need", "failed"):
            pass
        wanted += kind == "need"
    for offset in range(0, REQUEST_BYTES - 64 * KIB, 64 * KIB):
        for name in names:
            await t.say(chunk=chunk(name, offset, PIECE))
    await t.say(ping=pb.Ping(nonce=1))
    await t.hear("pong")
    return wanted


@pytest.mark.slow
def test_uploads_hold_no_more_than_is_configured_and_leave_nothing_behind(
    served: Served, bundle: Path
) -> None:
    limits = {"max_request_bytes": REQUEST_BYTES, "max_prompt_chars": 1000}
    with fake_cloud_process(bundle, max_held_bytes=HELD_BYTES, limits=limits) as node:

        async def run() -> None:
            before = node.resident_bytes()
            async with asyncio.TaskGroup() as group:
                edges = [group.create_task(edge()) for _ in range(NUM_EDGES)]
            wanted = sum(one.result() for one in edges)
            grown = max(peaks) - before
            assert HELD_BYTES / 2 <= wanted * REQUEST_BYTES <= HELD_BYTES
            assert wanted * REQUEST_BYTES / 2 < grown < HELD_BYTES + SLACK_BYTES, f"{grown / MIB:.0f} MiB"
            async with talk(node.address) as t:
                await t.welcomed()
                await t.say(open=photo_opening(served, "next"))
                await t.hear("need", "next")

        peaks: list[int] = []
        all_sent = asyncio.Barrier(NUM_EDGES)

        async def edge() -> int:
            async with talk(node.address) as t:
                wanted = await uploads(t, served)
                await all_sent.wait()
                peaks.append(node.resident_bytes())
                await all_sent.wait()
                return wanted

        settle(run())
