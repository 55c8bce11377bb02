"""What the operator sets: one frozen value, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cloud_node.doors import Doors
from cloud_node.engine import EngineSettings
from cloud_node.runner import Room
from cloud_node.served import Bounds
from wire.errors import BadInput
from wire.limits import MIB, Limits

_ABOVE_ZERO = (
    "max_queue", "max_detached", "num_slots", "chunk_tokens", "max_tail_batch", "default_deadline_s", "max_deadline_s",
    "cache_ttl_s",
)  # fmt: skip
_ZERO_OR_MORE = ("drain_s", "cache_bytes", "prefix_bytes", "context_tokens", "max_tokens", "tell_every_s")


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """One cloud process. `listen` is host:port; port 0 takes a free one."""

    listen: str = "127.0.0.1:50051"
    metrics_listen: str = ""  # where to serve GET /metrics, host:port; empty: nowhere
    index_dir: Path | None = None  # where indexes of embeddings are kept; None: no indexes
    device: str = "cpu"  # as torch names it
    dtype: str = "float32"
    compiled: bool = False  # the decoder's steps
    max_queue: int = 64
    max_detached: int = 256  # requests kept for edges whose streams were lost
    num_slots: int = 16  # sequences that run at once, of each model
    context_tokens: int = 0  # of prompt and answer together; 0: as many as the model reads, at most 4096
    max_tokens: int = 0  # of all that run, together; 0: as many as there is room for
    chunk_tokens: int = 256  # of prompts, read in one step of the batch
    max_tail_batch: int = 8
    tell_every_s: float = 0.005  # of a fast decoder's tokens; first ones and ends are told at once
    prefix_bytes: int = 256 * MIB  # of keys and values of prompts that were read; 0: off
    default_deadline_s: float = 60.0
    max_deadline_s: float = 600.0
    drain_s: float = 30.0
    cache_bytes: int = 256 * MIB  # of answers, features and claims; 0: off
    cache_ttl_s: float = 3600.0
    doors: Doors = field(default_factory=Doors)
    limits: Limits = field(default_factory=lambda: Limits(max_new_tokens=256))

    def __post_init__(self) -> None:
        for address, example in ((self.listen, 50051), (self.metrics_listen or "off:0", 9100)):
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or int(port) > 65_535:
                raise BadInput(
                    f"{address!r} is no address to listen on; give host:port, such as 127.0.0.1:{example}"
                )
        for name in _ABOVE_ZERO:
            if getattr(self, name) <= 0:
                raise BadInput(f"{name} is {getattr(self, name)}, and it must be above 0")
        for name in _ZERO_OR_MORE:
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is {getattr(self, name)}, and it must be 0 or more")

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.limits, self.default_deadline_s, self.max_deadline_s)

    @property
    def engine(self) -> EngineSettings:
        return EngineSettings(
            max_queue=self.max_queue,
            num_slots=self.num_slots,
            max_tokens=self.max_tokens,
            chunk_tokens=self.chunk_tokens,
            max_tail_batch=self.max_tail_batch,
            priority_s=self.limits.priority_s,
            tell_every_s=self.tell_every_s,
        )

    @property
    def room(self) -> Room:
        return Room(self.num_slots, self.context_tokens, self.prefix_bytes, self.compiled)
