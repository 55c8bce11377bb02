"""Traces to an OpenTelemetry collector, over gRPC: of an edge node and of a cloud node. Imported where they are wanted.

A collector that is down or hangs costs spans, and nothing else: they wait in a bounded queue for a thread of their own,
what does not fit is dropped, and closing waits no longer than `CLOSE_S`. The standard OTEL_ variables say the rest:
headers, certificates, sampling, the queue's size.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wire.errors import BadInput, CleaveError

try:
    from opentelemetry import trace as api
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError:
    raise BadInput(
        "traces need packages that are not installed here; run `pip install 'cleave[tracing]'`"
    ) from None

if TYPE_CHECKING:
    from cloud_node.asked.trace_context import TraceContext
    from cloud_node.telemetry.spans import Ended, Span

Fact = str | int | float | bool

CLOSE_S = 2.0


class OtlpTraces:
    """What `edge_node.tracing` and `cloud_node.telemetry.spans` ask for. Any thread may call anything here."""

    def __init__(self, endpoint: str, service: str) -> None:
        """Raises BadInput where the endpoint is none. Nothing is sent yet: it need not be up."""
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(
                f"{endpoint!r} is no OTLP endpoint; give http://host:port or https://host:port, such as "
                "http://127.0.0.1:4317"
            )
        named = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service})
        # Shut down by `close`: at the exit it would wait for a collector that hangs.
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("cleave")

    def begin(self, name: str) -> OtlpTrace:
        """A request of the edge's, inside whatever span its caller is in."""
        return OtlpTrace(self._tracer, name)

    def tell(self, ended: Ended) -> None:
        """A request of the cloud's, which has ended."""
        from cloud_node.telemetry.spans import request_span  # a device has no use for it

        self.export(request_span(ended), ended.request.trace)

    def export(self, span: Span, parent: TraceContext | None) -> None:
        """A span of the cloud's, with those in it."""
        epoch_ns = time.time_ns() - time.monotonic_ns()
        self._export(span, _remote(parent), api.SpanKind.SERVER, epoch_ns)

    def _export(self, span: Span, parent: Context, kind: api.SpanKind, epoch_ns: int) -> None:
        made = self._tracer.start_span(
            span.name, parent, kind, dict(span.facts), start_time=epoch_ns + int(span.start_s * 1e9)
        )
        if made.is_recording():
            if span.error:
                _fail(made, span.error)
            inside = api.set_span_in_context(made, Context())
            for child in span.children:
                self._export(child, inside, api.SpanKind.INTERNAL, epoch_ns)
        made.end(epoch_ns + int(span.end_s * 1e9))

    def close(self) -> None:
        """Sends what waits, for at most `CLOSE_S`."""
        closing = threading.Thread(target=self._provider.shutdown, name="close traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class OtlpTrace:
    """One request of an edge's. See `edge_node.tracing.Trace`."""

    def __init__(self, tracer: api.Tracer, name: str) -> None:
        self._tracer = tracer
        self._epoch_ns = time.time_ns() - int(time.perf_counter() * 1e9)
        self._span = tracer.start_span(name, kind=api.SpanKind.CLIENT, start_time=self._now_ns())
        self._inside = api.set_span_in_context(self._span, Context())

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, self._inside)
        return carrier.get("traceparent", "")

    def span(self, name: str, start_s: float, end_s: float, **facts: Fact) -> None:
        made = self._tracer.start_span(
            name, self._inside, attributes=_named(facts), start_time=self._epoch_ns + int(start_s * 1e9)
        )
        made.end(self._epoch_ns + int(end_s * 1e9))

    def tell(self, **facts: Fact) -> None:
        self._span.set_attributes(_named(facts))

    def end(self, error: BaseException | None = None) -> None:
        if error is not None:
            _fail(self._span, _code(error))
        self._span.end(self._now_ns())

    def _now_ns(self) -> int:
        return self._epoch_ns + int(time.perf_counter() * 1e9)


@contextlib.contextmanager
def otlp_traces(endpoint: str, service: str) -> Iterator[OtlpTraces]:
    """Sends what is left at the end."""
    traces = OtlpTraces(endpoint, service)
    try:
        yield traces
    finally:
        traces.close()


def _named(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {f"cleave.{name}": value for name, value in facts.items()}


def _code(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"  # whoever asked has left
    return error.code.name.lower() if isinstance(error, CleaveError) else type(error).__name__


def _fail(span: api.Span, code: str) -> None:
    span.set_status(api.Status(api.StatusCode.ERROR, code))
    span.set_attribute("error.type", code)


def _remote(parent: TraceContext | None) -> Context:
    if parent is None:
        return Context()
    flags = api.TraceFlags(api.TraceFlags.SAMPLED if parent.is_sampled else api.TraceFlags.DEFAULT)
    context = api.SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags
    )
    return api.set_span_in_context(api.NonRecordingSpan(context), Context())
