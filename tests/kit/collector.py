"""A real OTLP collector on loopback: takes traces over gRPC as any would, and keeps them; or takes them and hangs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

LIMIT_S = 20.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans` are by the name of their service. While `hanging` is set, no call is answered."""

    def __init__(self) -> None:
        self.address = ""
        self.spans: list[tuple[str, trace_pb2.Span]] = []
        self.hanging = threading.Event()
        self.asked = threading.Event()
        self._may_go_on = threading.Event()
        self._changed = threading.Condition()

    def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        self.asked.set()
        if self.hanging.is_set():
            self._may_go_on.wait(LIMIT_S)
        with self._changed:
            for resource in request.resource_spans:
                (service,) = [
                    one.value.string_value
                    for one in resource.resource.attributes
                    if one.key == "service.name"
                ]
                self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def go_on(self) -> None:
        self.hanging.clear()
        self._may_go_on.set()

    def wait_for(self, count: int) -> list[tuple[str, trace_pb2.Span]]:
        """Once at least so many spans have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.spans) >= count, LIMIT_S), (
                f"{len(self.spans)} of {count} spans came"
            )
            return list(self.spans)


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    made = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    made.address = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield made
    finally:
        made.go_on()
        server.stop(0)


def attributes(span: trace_pb2.Span) -> dict[str, str | int | float | bool]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
