"""The command of the cloud: it has the most options."""

from __future__ import annotations

import logging
import sys

from cleave.options import (
    Bundles,
    CacheMb,
    ChunkTokens,
    Compiled,
    Context,
    DefaultDeadline,
    Device,
    Drain,
    Dtype,
    IndexDir,
    Listen,
    MaxBatchTokens,
    MaxQueue,
    MetricsListen,
    Models,
    Names,
    PrefixMb,
    RedisUrl,
    Slots,
    TailBatch,
)


def cloud(
    model: Models,
    bundle: Bundles = None,
    listen: Listen = "127.0.0.1:50051",
    name: Names = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    compiled: Compiled = False,
    slots: Slots = 16,
    context: Context = 0,
    max_tokens: MaxBatchTokens = 0,
    chunk_tokens: ChunkTokens = 256,
    tail_batch: TailBatch = 8,
    max_queue: MaxQueue = 64,
    cache_mb: CacheMb = 256,
    redis: RedisUrl = "",
    prefix_mb: PrefixMb = 256,
    index_dir: IndexDir = None,
    deadline_s: DefaultDeadline = 60.0,
    drain_s: Drain = 30.0,
    metrics_listen: MetricsListen = "",
) -> None:
    """Serve the tail, the fusion and the decoder of one model, or several, to edge nodes; SIGTERM drains.

    Without any authentication configured it should listen on loopback only.
    """
    from cleave.serving import serve_cloud

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("cloud_node").setLevel(logging.INFO)
    serve_cloud(
        model,
        bundle or (),
        name or (),
        listen=listen,
        index_dir=index_dir,
        device=device,
        dtype=dtype,
        compiled=compiled,
        num_slots=slots,
        context_tokens=context,
        max_tokens=max_tokens,
        chunk_tokens=chunk_tokens,
        max_tail_batch=tail_batch,
        max_queue=max_queue,
        cache_bytes=cache_mb << 20,
        redis_url=redis,
        prefix_bytes=prefix_mb << 20,
        default_deadline_s=deadline_s,
        drain_s=drain_s,
        metrics_listen=metrics_listen,
    )
