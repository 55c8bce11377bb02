"""What the operator sets: one frozen value, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cloud_node.access.identity import Identity
from cloud_node.asked.held_bytes import MAX_HELD_BYTES
from cloud_node.asked.served import Bounds
from cloud_node.caching.redis_settings import RedisSettings
from cloud_node.engine.engine import EngineSettings
from cloud_node.model.runner import Room
from cloud_node.streams.rollout import RolloutConfig
from wire.errors import BadInput
from wire.limits import MAX_TENSOR_BYTES, MIB, Limits

_ABOVE_ZERO = (
    "max_queue", "max_detached", "num_slots", "chunk_tokens", "max_tail_batch", "default_deadline_s", "max_deadline_s",
    "cache_ttl_s", "max_decoded_bytes", "max_streams", "max_connections",
    "load_every_s",
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
    sheds_late: bool = True  # whether what cannot be done by its deadline is refused at once
    max_decoded_bytes: int = MAX_TENSOR_BYTES  # of inputs that are taken up together
    max_streams: int = 4096
    max_connections: int = 1024  # further ones are closed at once
    load_every_s: float = 1.0  # at least so long between two messages that tell an edge how busy the cloud is
    max_held_bytes: int = MAX_HELD_BYTES  # of all requests that are uploaded or wait to be taken up
    tell_every_s: float = 0.005  # of a fast decoder's tokens; first ones and ends are told at once
    prefix_bytes: int = 256 * MIB  # of keys and values of prompts that were read; 0: off
    default_deadline_s: float = 60.0
    max_deadline_s: float = 600.0
    drain_s: float = 30.0
    cache_bytes: int = 256 * MIB  # of answers, features and claims; 0: off
    redis: RedisSettings | None = None  # where they are kept instead, for several clouds
    cache_ttl_s: float = 3600.0
    rollout: RolloutConfig = field(default_factory=RolloutConfig)  # of bundles that share a name
    limits: Limits = field(default_factory=lambda: Limits(max_new_tokens=256))
    identity: Identity = field(default_factory=Identity)  # who may call

    def __post_init__(self) -> None:
        for address, example in ((self.listen, 50051), (self.metrics_listen or "off:0", 9100)):
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or int(port) > 65_535:
                raise BadInput(
                    f"{address!r} is no address to listen on; give host:port, such as 127.0.0.1:{example}"
                )
        self.identity.require_safe(self.listen)
        for name in _ABOVE_ZERO:
            if getattr(self, name) <= 0:
                raise BadInput(f"{name} is {getattr(self, name)}, and it must be above 0")
        for name in _ZERO_OR_MORE:
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is {getattr(self, name)}, and it must be 0 or more")

        # Nobody may hold more than is left to others.
        least = 2 * (self.limits.max_request_bytes + 4 * self.limits.max_prompt_chars)
        if self.max_held_bytes < least:
            raise BadInput(
                f"max_held_bytes is {self.max_held_bytes:,}, and for requests of {self.limits.max_request_bytes:,} "
                f"bytes it must be at least {least:,}"
            )

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
            max_decoded_bytes=self.max_decoded_bytes,
            sheds_late=self.sheds_late,
            priority_s=self.limits.priority_s,
            tell_every_s=self.tell_every_s,
        )

    @property
    def room(self) -> Room:
        return Room(self.num_slots, self.context_tokens, self.prefix_bytes, self.compiled)
