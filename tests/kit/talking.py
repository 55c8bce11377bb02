"""The wire spoken by hand: a stream without an edge node, for tests of what a peer may and may not send."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from zlib import crc32

import grpc

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.served import Served
from wire.codecs import split_codec_name
from wire.limits import PROTOCOL_VERSION
from wire.manifest import Chain
from wire.modality import modality_to_wire
from wire.sizes import size_to_wire
from wire.tensors import make_headers
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc


class Talk:
    """One stream to a cloud, message by message."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def hello(self, version: int = PROTOCOL_VERSION, edge_id: str = "") -> None:
        await self.say(hello=pb.Hello(protocol_version=version, edge_id=edge_id))

    async def welcomed(self, edge_id: str = "") -> pb.Welcome:
        """Says Hello and hears Welcome."""
        await self.hello(edge_id=edge_id)
        welcome = await self.hear("welcome")
        assert isinstance(welcome, pb.Welcome)
        return welcome

    async def say(self, **message: Any) -> None:
        await self.call.write(pb.Up(**message))

    async def next(self) -> pb.Down:
        down = await self.call.read()
        assert down is not grpc.aio.EOF, "the stream ended"
        return down

    async def hear(self, kind: str, request_id: str | None = None) -> Any:
        """The next message of a kind, of a request if one is named; others are passed over."""
        while True:
            down = await self.next()
            if down.WhichOneof("message") == kind:
                message = getattr(down, kind)
                if request_id is None or message.request_id == request_id:
                    return message

    async def text(self, request_id: str) -> str:
        """The whole answer to a request; fails where the request failed."""
        text = ""
        while True:
            down = await self.next()
            match down.WhichOneof("message"):
                case "deltas":
                    text += "".join(d.text for d in down.deltas.deltas if d.request_id == request_id)
                case "failed" if down.failed.request_id == request_id:
                    raise AssertionError(f"{request_id} failed: {down.failed.message}")
                case "done" if down.done.request_id == request_id:
                    return text

    async def status(self) -> grpc.StatusCode:
        """How the stream ends, whatever is said before."""
        with contextlib.suppress(grpc.RpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return await self.call.code()


@contextlib.asynccontextmanager
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as made:
        yield made


@contextlib.asynccontextmanager
async def talk(address: str) -> AsyncIterator[Talk]:
    """A stream on a connection of its own."""
    async with channel(address) as made:
        call = pb_grpc.InferenceStub(made).Stream()
        try:
            yield Talk(call)
        finally:
            call.cancel()


def item_of(
    chain: Chain,
    *,
    split_point: int = 1,
    payload: bytes | None = None,
    is_inline: bool = True,
    input_key: bytes = b"",
    num_tiles: int = 0,
) -> pb.Input:
    """A picture that is right in every field; its payload is raw zeros unless given."""
    specs = chain.boundary(split_point, num_tiles)
    data = bytes(sum(spec.num_bytes for spec in specs)) if payload is None else payload
    return pb.Input(
        modality=modality_to_wire(chain.modality),
        input_key=input_key,
        image=pb.ImageSize(width=64, height=48),
        shape_id=chain.input_shape.shape_id,
        split_point=split_point,
        codec_id="raw",
        tensors=make_headers(specs, [spec.num_bytes for spec in specs]),
        total_bytes=len(data),
        crc32=crc32(data),
        payload=data if is_inline else b"",
        num_tiles=num_tiles,
    )


def item_to_wire(item: RequestInput, payload: bytes | memoryview, chain: Chain) -> pb.Input:
    """What an edge sends of an input that `coded` made."""
    codec_id, setting = split_codec_name(item.codec)
    message = pb.Input(
        modality=modality_to_wire(item.modality),
        shape_id=item.shape_id,
        split_point=item.split_point,
        codec_id=codec_id,
        setting=setting,
        tensors=make_headers(chain.boundary(item.split_point, item.num_tiles), item.payload_sizes),
        total_bytes=item.total_bytes,
        crc32=item.crc32,
        payload=bytes(payload),
        num_tiles=item.num_tiles,
    )
    size_to_wire(message, item.size)
    return message


def opening(
    served: Served,
    text: str,
    *,
    request_id: str = "r1",
    deadline_s: float = 0.0,
    inputs: Sequence[pb.Input] | None = None,
    **options: Any,
) -> pb.Open:
    """An Open that is right in every field; of one picture with the options of `item_of` unless inputs are given."""
    chain = served.manifest.chains[0]
    return pb.Open(
        request_id=request_id, model=served.name, bundle_digest=served.bundle_digest, text=text,
        deadline_s=deadline_s, inputs=[item_of(chain, **options)] if inputs is None else inputs,
    )  # fmt: skip


def chunk(request_id: str, offset: int, data: bytes, **changes: Any) -> pb.Chunk:
    fields: dict[str, Any] = {"offset": offset, "data": data, "crc32": crc32(data), **changes}
    return pb.Chunk(request_id=request_id, **fields)
