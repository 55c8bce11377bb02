"""What a cloud decodes: messages of an edge, and values that lie in a cache which others may write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tests.fuzz.target import MIB, Run, Target


def _open() -> Run:
    """The first byte says which model is asked; the rest is an Open."""
    from google.protobuf.message import DecodeError

    from cloud_node.asked.request import parse_open
    from tests.fuzz.served import BOUNDS, all_served
    from wire.v1 import inference_pb2 as pb

    models = all_served()

    def run(data: bytes) -> None:
        if not data:
            return
        served = models[data[0] % len(models)]
        try:
            message = pb.Open.FromString(data[1:])
        except DecodeError:
            return  # gRPC ends the call
        request = parse_open(message, served, BOUNDS)
        assert sum(item.total_bytes for item in request.inputs) <= BOUNDS.limits.max_request_bytes
        for item in request.inputs:
            assert item.is_media or item.split_point < len(
                served.chain(item.modality, item.shape_id).split_points
            )

    return run


def _up() -> Run:
    """Messages of a stream, each after its length: Hello, and then what an upload takes."""
    from cloud_node.asked.request import parse_open
    from cloud_node.streams.hello import hear_hello
    from cloud_node.streams.upload import Uploads
    from tests.fuzz.framing import frames
    from tests.fuzz.served import BOUNDS, served_of
    from wire.checked import decode_up
    from wire.errors import CleaveError
    from wire.v1 import inference_pb2 as pb

    served = served_of("generator")

    async def upload(messages: list[pb.Up]) -> None:
        async def coming() -> AsyncIterator[pb.Up]:
            for message in messages:
                yield message

        stream = coming()
        await hear_hello(stream)
        uploads: Uploads | None = None
        async for up in stream:
            try:
                if up.HasField("open"):
                    request = parse_open(up.open, served, BOUNDS)
                    uploads = Uploads(enumerate(request.inputs), BOUNDS.limits, lambda error: None)
                elif up.HasField("chunk") and uploads is not None and up.chunk.input_index in uploads:
                    chunk = up.chunk
                    uploads.add(chunk.input_index, chunk.offset, chunk.data, chunk.crc32)
                    uploads.take_acknowledgement(chunk.input_index)
                    if uploads.is_complete:
                        uploads.payloads()
            except CleaveError:
                continue

    loop = asyncio.new_event_loop()

    def run(data: bytes) -> None:
        messages = [decode_up(frame) for frame in frames(data)]
        loop.run_until_complete(upload(messages))

    return run


def _cached() -> Run:
    """The first byte names the kind, and whether the value is sealed as it should be around any body.

    What comes out is put to use: held arms of an input, or the features of one.
    """
    import msgspec

    from cloud_node.asked.request import parse_open
    from cloud_node.caching import sealed
    from cloud_node.caching.cache import Answer
    from cloud_node.caching.held_arms import Features, Held, fits, in_place_of, serving
    from tests.fuzz.served import BOUNDS, served_of
    from tests.kit.talking import item_of, opening

    served = served_of("generator")
    chains = served.manifest.chains
    items = [item_of(chains[0]), item_of(chains[2], num_tiles=3)]
    request = parse_open(opening(served, "what?", inputs=items), served, BOUNDS)
    kinds: dict[str, Any] = {"claim": list[Held], "features": Features, "answer": Answer}
    name = b"cleave:3:any:" + b"k" * 32

    def run(data: bytes) -> None:
        if not data:
            return
        kind = list(kinds)[data[0] % 3]
        value = data[1:]
        if data[0] & 128:
            checksum = sealed._checksum(name, value)
            value = msgspec.msgpack.encode(sealed._Sealed(sealed.FORMAT_VERSION, checksum, memoryview(value)))
        found = sealed.unseal(name, value, kinds[kind])
        if kind == "claim":
            for item in request.inputs:
                for held in serving(found or [], item, served):
                    in_place_of(request, {0: held}, served)
        elif kind == "features" and found is not None:
            assert not any(fits(item, found, served) and not found.payload for item in request.inputs)

    return run


def _caller() -> Run:
    """Headers of a call, a name and a value by turns, and the names of a certificate."""
    from cloud_node.access.callers import Callers
    from cloud_node.access.tokens import parse_tokens
    from tests.fuzz.framing import frames
    from tests.fuzz.served import TOKENS

    table = parse_tokens(TOKENS)
    by_token, by_certificate = Callers(lambda: table, lambda: 0.0), Callers(None)

    def run(data: bytes) -> None:
        texts = list(frames(data))
        names = [text.decode("latin-1") for text in texts[::2]]
        metadata = [(name, value) for name, value in zip(names, texts[1::2], strict=False)]
        if data[:1] == b"\0":
            by_certificate.identify([], {"x509_common_name": texts[:1], "peer_dns": texts[1:]})
        else:
            assert by_token.identify(metadata, {}).tenant().name == "garden"

    return run


CLOUD_TARGETS = {
    "caller": Target("who calls, as metadata and certificate say", _caller),
    "open": Target("an Open, to a model of each shape", _open, memory_bytes=64 * MIB),
    "up": Target("the messages of a stream, from Hello on", _up, max_input_bytes=8192, memory_bytes=96 * MIB),
    "cached": Target("a value from a cache that others write", _cached, errors=()),
}
