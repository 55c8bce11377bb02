"""What the operator sets: one frozen value, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cloud_node.request import Bounds
from wire.errors import BadInput
from wire.limits import MIB, Limits


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """One cloud process. `listen` is host:port; port 0 takes a free one."""

    bundle: Path
    listen: str = "127.0.0.1:50051"
    name: str = ""  # under which the model is served; its own name by default
    max_queue: int = 64
    default_deadline_s: float = 60.0
    max_deadline_s: float = 600.0
    drain_s: float = 30.0
    cache_bytes: int = 256 * MIB  # of answers, features and claims; 0: off
    cache_ttl_s: float = 3600.0
    limits: Limits = field(default_factory=lambda: Limits(max_new_tokens=256, max_inputs=1))

    def __post_init__(self) -> None:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise BadInput(
                f"{self.listen!r} is no address to listen on; give host:port, such as 127.0.0.1:50051"
            )
        for name in ("max_queue", "default_deadline_s", "max_deadline_s", "cache_ttl_s"):
            if getattr(self, name) <= 0:
                raise BadInput(f"{name} is {getattr(self, name)}, and it must be above 0")
        for name in ("drain_s", "cache_bytes"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is {getattr(self, name)}, and it must be 0 or more")

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.limits, self.default_deadline_s, self.max_deadline_s)
