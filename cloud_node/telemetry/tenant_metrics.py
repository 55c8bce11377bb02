"""What the metrics tell of each tenant, and of those who were not let in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from cloud_node.access.callers import Callers
from cloud_node.access.quotas import Quotas
from cloud_node.telemetry.metrics import Metrics

# Of one family.
MAX_SERIES = 1000
OTHERS = "(others)"  # no tenant's name

Labels = tuple[str, ...]


class Door(Protocol):
    """What is counted where callers come in."""

    @property
    def callers(self) -> Callers: ...
    @property
    def certificate_expires_s(self) -> float | None: ...  # Unix time


def watch_tenants(metrics: Metrics, quotas: Quotas, door: Door) -> None:
    """From now on the exposition has them."""
    metrics.registry.register(_TenantFamilies(quotas, door))


class _TenantFamilies:
    """A collector that reads when it is asked, on any thread."""

    def __init__(self, quotas: Quotas, door: Door) -> None:
        self._quotas = quotas
        self._door = door

    def collect(self) -> Iterator[Metric]:
        yield _gauge("tenant_streams", "Streams that a tenant has open.", ("tenant",), self._quotas.streams())
        counters = (
            ("tenant_requests", "Requests that a tenant's limits let in.", "requests"),
            ("tenant_received_bytes", "Coded features that came from a tenant.", "bytes"),
            ("tenant_answer_tokens", "Tokens that a tenant was told, repeated ones included.", "tokens"),
        )
        for name, told, what in counters:
            yield _counter(name, told, ("tenant",), self._quotas.counted(what))
        refused = self._quotas.refused()
        yield _counter("tenant_refused", "What a tenant's limit refused.", ("tenant", "limit"), refused)
        denied = dict(self._door.callers.denied)
        yield _counter("calls_denied", "Calls whose caller was not let in.", ("showed",), denied)
        ends = GaugeMetricFamily(
            "cleave_certificate_expires_seconds", "When the server's certificate ends, Unix time."
        )
        if (expires_s := self._door.certificate_expires_s) is not None:
            ends.add_metric((), expires_s)
        yield ends


def _bounded(values: Mapping[Labels, float]) -> Mapping[Labels, float]:
    """A file names tens of tenants, certificates may name each device: beyond a bound they are told together."""
    if len(values) <= MAX_SERIES:
        return values
    ordered = list(values.items())
    told = dict(ordered[:MAX_SERIES])
    rest = sum(value for _, value in ordered[MAX_SERIES:])
    return {**told, tuple(OTHERS for _ in ordered[0][0]): rest}


def _gauge(name: str, told: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    return _filled(GaugeMetricFamily(f"cleave_{name}", told, labels=labels), values)


def _counter(name: str, told: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    return _filled(CounterMetricFamily(f"cleave_{name}", told, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Labels, float]) -> Metric:
    for labels, value in _bounded(values).items():
        family.add_metric(labels, value)
    return family
