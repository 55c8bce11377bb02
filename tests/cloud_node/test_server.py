"""The server around the streams: unary calls, health, reflection, draining; no error tells more than it should."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cloud_node.asked.served import Served
from cloud_node.config import CloudConfig
from cloud_node.ready import Ready
from cloud_node.server import SERVICE_NAME, CloudServer
from cloud_node.streams.stream import EdgeStream
from tests.kit.clouds import SECRET, FakeRunner, cloud, num_left, settle, until
from tests.kit.talking import channel, opening, talk
from tests.wire.samples import CONTENTS
from wire.errors import BadInput
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

STAGE = "stages/image/000.onnx"


async def fetched(address: str, request: pb.FetchBundleRequest) -> list[pb.BundlePart]:
    async with channel(address) as made:
        return [part async for part in pb_grpc.InferenceStub(made).FetchBundle(request)]


def test_describe_tells_models_split_points_and_limits(served: Served, bundle: Path) -> None:
    served = replace(served, refused={"image/32x32": {1: "its tail misses the probe by 0.5"}})

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, channel(server.address) as made:
            reply = await pb_grpc.InferenceStub(made).Describe(pb.DescribeRequest())
            (model,) = reply.models
            assert (model.name, model.bundle_digest) == ("tiny", served.bundle_digest)
            points = model.chains[0].split_points
            assert [point.served for point in points] == [True, False, True]
            assert points[1].reason == "its tail misses the probe by 0.5"
            assert (model.shape, model.decoding) == ("generator", "batched")
            assert model.chains[0].default_arm == model.default_arm
            assert (model.default_arm.split_point, model.default_arm.codec_id) == (1, "int8+zstd")
            assert (reply.limits.max_new_tokens, reply.limits.max_inputs) == (256, 16)
            codecs = {codec.codec_id: codec for codec in reply.codecs}
            assert codecs["raw"].media == pb.MODALITY_UNSPECIFIED
            assert codecs["jpeg"].media == pb.MODALITY_IMAGE
            assert codecs["jpeg"].settings[0] == "90"
            assert "opus" not in codecs, "no model here hears"

    settle(run())


@pytest.mark.parametrize("path", ["manifest.json", STAGE])
def test_bundle_is_fetched_file_by_file(served: Served, bundle: Path, path: str) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            request = pb.FetchBundleRequest(bundle_digest=served.bundle_digest, path=path)
            parts = await fetched(server.address, request)
            data = b"".join(part.data for part in parts)
            assert data == (bundle / path).read_bytes()
            assert parts[0].sha256 == sha256(data).digest()
            assert parts[0].total_bytes == len(data)

    settle(run())


@pytest.mark.parametrize(("offset", "length"), [(0, 3), (4, 0), (4, 3), (len(CONTENTS[STAGE]), 0)])
def test_fetching_goes_on_from_an_offset(served: Served, bundle: Path, offset: int, length: int) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            request = pb.FetchBundleRequest(
                bundle_digest=served.bundle_digest, path=STAGE, offset=offset, length=length
            )
            parts = await fetched(server.address, request)
            end = offset + length if length else None
            assert b"".join(part.data for part in parts) == CONTENTS[STAGE][offset:end]
            assert parts[0].offset == offset

    settle(run())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"bundle_digest": "0" * 64}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"path": "stages/image/999.onnx"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"path": "../secret"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"path": "stages/../../secret"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"path": "/etc/passwd"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"path": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"offset": len(CONTENTS[STAGE]) + 1}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_the_manifest_does_not_list_is_not_fetched(
    served: Served, bundle: Path, changes: dict[str, str | int], status: grpc.StatusCode
) -> None:
    (bundle.parent / "secret").write_text(SECRET)
    fields = {"bundle_digest": served.bundle_digest, "path": STAGE, **changes}

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await fetched(server.address, pb.FetchBundleRequest(**fields))  # type: ignore[arg-type]
            assert refused.value.code() == status

    settle(run())


def test_file_that_has_gone_is_an_internal_error_that_tells_no_path(served: Served, bundle: Path) -> None:
    (bundle / STAGE).unlink()

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            request = pb.FetchBundleRequest(bundle_digest=served.bundle_digest, path=STAGE)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await fetched(server.address, request)
            assert refused.value.code() == grpc.StatusCode.INTERNAL
            assert str(bundle) not in str(refused.value.details())

    settle(run())


def test_bug_in_a_stream_ends_it_without_the_text_of_the_exception(
    served: Served, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: EdgeStream, up: pb.Up) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(EdgeStream, "_take", broken)

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(ping=pb.Ping())
            assert await t.status() == grpc.StatusCode.INTERNAL
            assert SECRET not in await t.call.details()

    settle(run())


def test_health_says_serving(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, channel(server.address) as made:
            stub = health_pb2_grpc.HealthStub(made)
            for name in ("", SERVICE_NAME):
                reply = await stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert reply.status == health_pb2.HealthCheckResponse.SERVING

    settle(run())


def test_reflection_lists_the_service_and_knows_its_messages(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server, channel(server.address) as made:
            call = reflection_pb2_grpc.ServerReflectionStub(made).ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            names = {service.name for service in (await call.read()).list_services_response.service}
            assert {SERVICE_NAME, "grpc.health.v1.Health"} <= names
            symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol="wire.v1.Open")
            await call.write(symbol)
            assert (await call.read()).file_descriptor_response.file_descriptor_proto
            call.cancel()

    settle(run())


def test_taken_address_is_one_clear_error(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            second = CloudServer(CloudConfig(listen=server.address), [Ready(served, FakeRunner(), bundle)])
            with pytest.raises(BadInput, match="is the address taken"):
                await second.start()
            await second.stop()

    settle(run())


def test_draining_ends_what_was_accepted_and_refuses_what_is_new(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, drain_s=15) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold on", request_id="old"))
            await t.hear("deltas")
            drained = asyncio.create_task(server.drain())
            assert (await t.hear("go_away")).drain_s == 15
            await t.say(open=opening(served, "hi", request_id="new"))
            assert (await t.hear("failed", "new")).code == pb.ERROR_CODE_UNAVAILABLE
            async with talk(server.address) as late:
                await late.hello()
                assert await late.status() == grpc.StatusCode.UNAVAILABLE
            runner.release.set()
            assert await t.text("old") == "on "
            await drained

    settle(run())


def test_draining_ends_in_time_where_a_request_does_not(
    served: Served, bundle: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with cloud(served, bundle, runner, drain_s=0.1) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(served, "hold"))
            await t.hear("deltas")
            await server.drain()
            assert (await t.hear("failed", "r1")).code == pb.ERROR_CODE_UNAVAILABLE
            await until(lambda: not num_left(server))

    settle(run())


@pytest.mark.parametrize(
    "listen", ["", "localhost", "localhost:", ":50051", "localhost:70000", "localhost:x"]
)
def test_config_refuses_what_is_no_address(listen: str) -> None:
    with pytest.raises(BadInput):
        CloudConfig(listen=listen)


@pytest.mark.parametrize("setting", ["max_queue", "default_deadline_s", "max_deadline_s"])
def test_config_refuses_what_is_not_above_zero(setting: str) -> None:
    with pytest.raises(BadInput, match=setting):
        CloudConfig(**{setting: 0})  # type: ignore[arg-type]


def test_config_refuses_a_drain_below_zero() -> None:
    with pytest.raises(BadInput, match="drain_s"):
        CloudConfig(drain_s=-1)
