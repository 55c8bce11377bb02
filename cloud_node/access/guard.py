"""No call is served before its caller is known, and none that nobody counts: health checks alone are open to all."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc

from cloud_node.access.callers import CALLER, Callers
from cloud_node.access.open_calls import IDLE_S, OpenCalls, write_all
from cloud_node.access.statuses import abort
from wire.errors import Denied, LimitReached, Overloaded, Unavailable

# A balancer's and an orchestrator's probes carry no credentials. Watch would let a stranger hold calls open.
_OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})
# Quotas count it, and its requests.
_STREAM_METHOD = "/wire.v1.Inference/Stream"


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Wraps the handler of every method, those included that somebody will add.

    Without `callers` nobody is asked who they are.
    """

    def __init__(self, callers: Callers | None, calls: OpenCalls) -> None:
        self._callers = callers
        self._calls = calls

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        is_stream = method == _STREAM_METHOD
        if handler is None or method in _OPEN_METHODS or (is_stream and self._callers is None):
            return handler
        kind = _kind_of(handler)
        guarded = self._guarded(getattr(handler, kind), handler.response_streaming, is_counted=not is_stream)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _guarded(
        self, behaviour: Callable[[Any, Any], Any], is_streaming: bool, *, is_counted: bool
    ) -> Callable[[Any, Any], Any]:
        async def whole(request: Any, context: Any) -> Any:
            async with self._admitted(context, is_counted):
                return await behaviour(request, context)

        async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
            async with (
                self._admitted(context, is_counted),
                aclosing(behaviour(request, context)) as responses,
            ):
                async for response in responses:
                    yield response

        async def written(request: Any, context: Any) -> None:
            async with self._admitted(context, is_counted):
                try:
                    await write_all(context, behaviour(request, context), IDLE_S)
                except Unavailable as error:
                    await abort(context, error)

        # A coroutine that streams writes to the context by itself, as gRPC's own health service does.
        is_generator = is_streaming and not inspect.iscoroutinefunction(behaviour)
        if not is_generator:
            return whole
        return written if is_counted else streamed

    @asynccontextmanager
    async def _admitted(self, context: Any, is_counted: bool) -> AsyncIterator[None]:
        """The call's task knows its caller from here on."""
        with ExitStack() as counted:
            try:
                if self._callers is not None:
                    sent_along = context.invocation_metadata() or ()
                    CALLER.set(self._callers.identify(sent_along, context.auth_context()))
                if is_counted:
                    counted.enter_context(self._calls.one(CALLER.get().tenant()))
            except (Denied, LimitReached, Overloaded) as error:
                await abort(context, error)
            yield


def _kind_of(handler: Any) -> str:
    sides = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if is_streaming else "unary" for is_streaming in sides)
