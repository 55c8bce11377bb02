"""A tenant over its bytes per second, over real gRPC: its uploads take longer, and nothing else happens to them."""

from __future__ import annotations

from pathlib import Path

from cloud_node.access.identity import Identity
from cloud_node.asked.served import Served
from tests.kit.clouds import FakeRunner, cloud, limits, settle, until
from tests.kit.talking import Talk, channel, chunk, opening, talk
from tests.kit.tenants import TokenFile
from wire.v1 import inference_pb2_grpc as pb_grpc

PAYLOAD = bytes(range(256)) * 2 + bytes(16)
HALF = len(PAYLOAD) // 2


def test_uploads_that_are_held_back_are_not_given_up(served: Served, bundle: Path, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml", acme={"bytes_per_s": 500})

    async def run() -> None:
        identity = Identity(tokens=tokens.path)
        bounds = limits(upload_idle_s=0.2)
        async with (
            cloud(served, bundle, FakeRunner(), identity=identity, limits=bounds) as server,
            channel(server.address) as made,
        ):
            bearer = ("authorization", f"Bearer {tokens.tokens['acme']}")
            t = Talk(pb_grpc.InferenceStub(made).Stream(metadata=(bearer,)))
            await t.welcomed()
            for number in ("r1", "r2"):
                message = opening(served, number, request_id=number, payload=PAYLOAD, is_inline=False)
                await t.say(open=message)
                await t.hear("need", number)
            for offset in (0, HALF):
                for number in ("r1", "r2"):
                    await t.say(chunk=chunk(number, offset, PAYLOAD[offset:][:HALF]))
            # The second pause is of half a second, and r2 is in the middle of its upload.
            assert await t.text("r1") == "r1 "
            assert await t.text("r2") == "r2 "
            t.call.cancel()

    settle(run())


def test_bytes_are_those_of_payloads_alone(served: Served, bundle: Path, runner: FakeRunner) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner) as server, talk(server.address) as t:
            quotas = server._service._host.quotas
            await t.welcomed()
            await t.say(open=opening(served, "one", payload=PAYLOAD))
            await t.text("r1")
            await until(lambda: quotas.counted("bytes") == {("",): len(PAYLOAD)})
            await t.say(open=opening(served, "two", request_id="r2", payload=PAYLOAD, is_inline=False))
            for offset in (0, HALF):
                await t.say(chunk=chunk("r2", offset, PAYLOAD[offset:][:HALF]))
            await t.text("r2")
            await until(lambda: quotas.counted("bytes") == {("",): 2 * len(PAYLOAD)})

    settle(run())
