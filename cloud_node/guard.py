"""No call is served before its caller is known: health checks alone are open to whoever can connect."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from cloud_node.callers import CALLER, Callers
from cloud_node.statuses import abort
from wire.errors import Denied

# A balancer's and an orchestrator's probes carry no credentials. Watch would let a stranger hold calls open.
_OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Wraps the handler of every method, those included that somebody will add."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method in _OPEN_METHODS:
            return handler
        kind = _kind_of(handler)
        guarded = self._guarded(getattr(handler, kind), handler.response_streaming)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _guarded(self, behaviour: Callable[[Any, Any], Any], is_streaming: bool) -> Callable[[Any, Any], Any]:
        async def whole(request: Any, context: Any) -> Any:
            await self._admit(context)
            return await behaviour(request, context)

        async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(context)
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response

        # A coroutine that streams writes to the context by itself, as gRPC's own health service does.
        is_generator = is_streaming and not inspect.iscoroutinefunction(behaviour)
        return streamed if is_generator else whole

    async def _admit(self, context: Any) -> None:
        """The call's task knows its caller from here on."""
        try:
            CALLER.set(self._callers.identify(context.invocation_metadata() or (), context.auth_context()))
        except Denied as error:
            await abort(context, error)


def _kind_of(handler: Any) -> str:
    sides = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if is_streaming else "unary" for is_streaming in sides)
