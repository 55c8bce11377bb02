"""How a stream begins: a Hello of our version comes in time, and nothing is read before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from wire.errors import DeadlineExceeded, IncompatibleBundle, MalformedMessage
from wire.limits import PROTOCOL_VERSION, check_edge_id
from wire.v1 import inference_pb2 as pb

HELLO_TIMEOUT_S = 10.0


async def hear_hello(messages: AsyncIterator[pb.Up]) -> pb.Hello:
    """Takes the first message, whose edge_id is one, or empty.

    Raises DeadlineExceeded, MalformedMessage or IncompatibleBundle.
    """
    try:
        first = await asyncio.wait_for(anext(messages, None), HELLO_TIMEOUT_S)
    except TimeoutError:
        raise DeadlineExceeded(f"no Hello came within {HELLO_TIMEOUT_S:g} s of the stream's start") from None
    if first is None or first.WhichOneof("message") != "hello":
        raise MalformedMessage("the first message of a stream is Hello, and this one was not")
    if first.hello.protocol_version != PROTOCOL_VERSION:
        raise IncompatibleBundle(
            f"the edge speaks protocol {first.hello.protocol_version}, and this cloud speaks "
            f"{PROTOCOL_VERSION}; install the same version of cleave on both"
        )
    check_edge_id(first.hello.edge_id)
    return first.hello
