"""How one cloud process is seen from outside: its health, the endpoint that shows it, and where its traces go."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud_node.telemetry.health import Health
from cloud_node.telemetry.metrics_endpoint import MetricsEndpoint
from cloud_node.telemetry.spans import NoSpans, Spans


@dataclass(slots=True)
class Outside:
    """There before the models are: a process that loads them is alive, and not ready."""

    health: Health = field(default_factory=Health)
    endpoint: MetricsEndpoint | None = None
    spans: Spans = field(default_factory=NoSpans)

    def listen(self, address: str) -> None:
        """Shows the health over HTTP at host:port, unless there is an endpoint; raises BadInput where it cannot."""
        if address and self.endpoint is None:
            self.endpoint = MetricsEndpoint(address, self.health)

    def close(self) -> None:
        if self.endpoint is not None:
            self.endpoint.close()
            self.endpoint = None
