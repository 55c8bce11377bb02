"""The command of the cloud: it has the most options."""

from __future__ import annotations

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
    HeldMb,
    IndexDir,
    Listen,
    MaxBatchTokens,
    MaxConnections,
    MaxQueue,
    MaxStreams,
    MetricsListen,
    Models,
    Names,
    PrefixMb,
    RedisUrl,
    Slots,
    TailBatch,
)
from cleave.options_identity import ClientCa, TlsCert, TlsKey, Tokens, TrustNetwork
from cleave.options_rollout import Rollout, RolloutFile
from cleave.options_seen import LogFormat, LogLevel, Otlp


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
    held_mb: HeldMb = 1024,
    max_streams: MaxStreams = 4096,
    max_connections: MaxConnections = 1024,
    cache_mb: CacheMb = 256,
    redis: RedisUrl = "",
    prefix_mb: PrefixMb = 256,
    index_dir: IndexDir = None,
    deadline_s: DefaultDeadline = 60.0,
    drain_s: Drain = 30.0,
    metrics_listen: MetricsListen = "",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    client_ca: ClientCa = None,
    tokens: Tokens = None,
    trust_network: TrustNetwork = False,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
    otlp: Otlp = None,
    rollout: Rollout = None,
    rollout_file: RolloutFile = None,
) -> None:
    """Serve the tail, the fusion and the decoder of one model, or several, to edge nodes; SIGTERM drains.

    Without --tokens or --client-ca it listens on loopback only: nobody would be asked who they are.

        cleave token new acme --file tokens.toml

        cleave cloud --model default --listen 0.0.0.0:50051 --tokens tokens.toml --tls-cert a.pem --tls-key a.key
    """
    from cloud_node.access.identity import Identity
    from cloud_node.streams.rollout import parse_share

    identity = Identity(tls_cert, tls_key, client_ca, tokens, trust_network)
    identity.require_safe(listen)  # before what takes long is even imported

    share = None if rollout is None else parse_share(rollout)
    from cleave.serving import serve_cloud
    from cloud_node.telemetry.log_lines import start_logging

    start_logging(log_format, log_level)
    serve_cloud(
        model,
        bundle or (),
        name or (),
        otlp,
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
        max_held_bytes=held_mb << 20,
        max_streams=max_streams,
        max_connections=max_connections,
        cache_bytes=cache_mb << 20,
        redis_url=redis,
        prefix_bytes=prefix_mb << 20,
        default_deadline_s=deadline_s,
        drain_s=drain_s,
        metrics_listen=metrics_listen,
        identity=identity,
        rollout=share,
        rollout_file=rollout_file,
    )
