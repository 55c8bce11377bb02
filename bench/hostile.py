"""Requests that no edge of ours makes: every one of them must fail, and touch nothing else."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from zlib import crc32

import grpc

from bench.load import Job
from wire.errors import CleaveError, from_rpc_error
from wire.limits import PROTOCOL_VERSION
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

_IDLE_S = 30.0


def hostile_messages(job: Job, draw: random.Random, request_id: str) -> list[pb.Up]:
    """What goes up a stream of its own, Hello first or not; drawn from all kinds."""
    opening = pb.Open()
    opening.CopyFrom(job.opening)
    opening.request_id = request_id
    hello = pb.Up(hello=pb.Hello(protocol_version=PROTOCOL_VERSION))
    name = draw.choice([*_OPENINGS, *_STREAMS])
    if name in _STREAMS:
        return _STREAMS[name](hello, opening)
    _OPENINGS[name](opening, job.payloads[0])
    return [hello, pb.Up(open=opening)]


async def say_hostile(stub: pb_grpc.InferenceStub, messages: Iterable[pb.Up]) -> str:
    """How it ended: the name of the error; "answered" where there was an answer, which is the worst."""

    async def sent() -> AsyncIterator[pb.Up]:
        for message in messages:
            yield message

    call = stub.Stream(sent(), timeout=_IDLE_S)
    try:
        async for down in call:
            kind = down.WhichOneof("message")
            if kind == "failed":
                return pb.ErrorCode.Name(down.failed.code).removeprefix("ERROR_CODE_").lower()
            if kind in ("done", "deltas"):
                return "answered"
    except grpc.RpcError as error:
        return _name(from_rpc_error(error, "the cloud"))
    finally:
        with contextlib.suppress(grpc.RpcError):
            call.cancel()
    return "ended"


def _name(error: CleaveError) -> str:
    return error.code.name.lower()


def _wrong_crc(opening: pb.Open, payload: bytes) -> None:
    _inline(opening, payload[: 60 * 1024])
    opening.inputs[0].crc32 ^= 1
    # Of an input that the cloud knows it would not be looked at: what is kept answers.
    opening.inputs[0].ClearField("input_key")


def _inline(opening: pb.Open, payload: bytes) -> None:
    opening.inputs[0].payload = payload


def _more_than_there_is(opening: pb.Open, payload: bytes) -> None:
    opening.inputs[0].total_bytes += 1


def _huge_dims(opening: pb.Open, payload: bytes) -> None:
    opening.inputs[0].tensors[0].dims[:] = [1 << 62, 1 << 62]


def _huge_payload(opening: pb.Open, payload: bytes) -> None:
    opening.inputs[0].tensors[0].payload_bytes = 1 << 60
    opening.inputs[0].total_bytes = 1 << 60


def _unknown_codec(opening: pb.Open, payload: bytes) -> None:
    opening.inputs[0].codec_id = "../../pickle"


def _unknown_split(opening: pb.Open, payload: bytes) -> None:
    opening.inputs[0].split_point = 4096


def _wrong_digest(opening: pb.Open, payload: bytes) -> None:
    opening.bundle_digest = "0" * 64


def _no_inputs(opening: pb.Open, payload: bytes) -> None:
    opening.ClearField("inputs")


def _bad_settings(opening: pb.Open, payload: bytes) -> None:
    opening.settings.temperature = float("nan")


def _bad_id(opening: pb.Open, payload: bytes) -> None:
    opening.request_id = "../" * 9


def _long_prompt(opening: pb.Open, payload: bytes) -> None:
    opening.text = "a" * 200_000


_OPENINGS: dict[str, Callable[[pb.Open, bytes], None]] = {
    "wrong crc": _wrong_crc,
    "more than there is": _more_than_there_is,
    "huge dims": _huge_dims,
    "huge payload": _huge_payload,
    "unknown codec": _unknown_codec,
    "unknown split": _unknown_split,
    "wrong digest": _wrong_digest,
    "no inputs": _no_inputs,
    "bad settings": _bad_settings,
    "bad id": _bad_id,
    "long prompt": _long_prompt,
}


def _no_hello(hello: pb.Up, opening: pb.Open) -> list[pb.Up]:
    return [pb.Up(open=opening)]


def _two_hellos(hello: pb.Up, opening: pb.Open) -> list[pb.Up]:
    return [hello, hello]


def _nothing(hello: pb.Up, opening: pb.Open) -> list[pb.Up]:
    return [hello, pb.Up()]


def _half_an_upload(hello: pb.Up, opening: pb.Open) -> list[pb.Up]:
    """And a chunk that is damaged."""
    data = b"half"
    chunk = pb.Chunk(request_id=opening.request_id, offset=0, data=data, crc32=crc32(data) ^ 1)
    return [hello, pb.Up(open=opening), pb.Up(chunk=chunk)]


_STREAMS: dict[str, Callable[[pb.Up, pb.Open], list[pb.Up]]] = {
    "no hello": _no_hello,
    "two hellos": _two_hellos,
    "nothing": _nothing,
    "half an upload": _half_an_upload,
}
