"""The options that commands share, and those of the two that have many: types that say their own help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wire.limits import MAX_PRIORITY

Model = Annotated[
    str, typer.Option("--model", help="A Hugging Face checkpoint directory, a hub id, or 'default'.")
]
Cloud = Annotated[
    str, typer.Option("--cloud", envvar="CLEAVE_CLOUD", help="The cloud node's address, host:port.")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.1,
        help="Seconds to wait until the cloud can be reached, at first and when the connection is lost.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

# cleave cloud
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="A Hugging Face checkpoint directory, a hub id, or 'default'; several are served side by side.",
    ),
]
Bundles = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        help="What `cleave partition` made of the model; made and kept by itself without. One per model, in order.",
    ),
]
Listen = Annotated[str, typer.Option(help="host:port; port 0 takes a free one.")]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        help="The name to serve the model under; the bundle's by default. One per model, in their order.",
    ),
]
IndexDir = Annotated[
    Path | None,
    typer.Option(
        "--index-dir",
        help="The folder where indexes of embeddings are kept, for `cleave index` and `cleave search`; none without.",
        rich_help_panel="What is kept",
    ),
]
Device = Annotated[
    str,
    typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU where there is one.", rich_help_panel="The model"),
]
Dtype = Annotated[
    str, typer.Option(help="float32 (token for token), bfloat16 or float16.", rich_help_panel="The model")
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the decoder's steps; starts slower.", rich_help_panel="The model"
    ),
]
Slots = Annotated[
    int, typer.Option(min=1, help="Requests that are answered at once.", rich_help_panel="The engine")
]
Context = Annotated[
    int,
    typer.Option(
        min=0,
        help="Most tokens of prompt and answer; 0: the model's, up to 4096.",
        rich_help_panel="The engine",
    ),
]
MaxBatchTokens = Annotated[
    int,
    typer.Option(
        min=0, help="Most tokens of all that run; 0: what the slots hold.", rich_help_panel="The engine"
    ),
]
ChunkTokens = Annotated[
    int, typer.Option(min=1, help="Tokens of prompts read per step.", rich_help_panel="The engine")
]
TailBatch = Annotated[int, typer.Option(min=1, help="Tails that run together.", rich_help_panel="The engine")]
MaxQueue = Annotated[int, typer.Option(min=1, help="Requests that may wait.", rich_help_panel="The engine")]
HeldMb = Annotated[
    int,
    typer.Option(
        min=256,
        help="Megabytes of all requests that are uploaded or wait, together.",
        rich_help_panel="The engine",
    ),
]
MaxConnections = Annotated[
    int,
    typer.Option(min=1, help="Connections at once; further ones are closed.", rich_help_panel="The engine"),
]
MaxStreams = Annotated[int, typer.Option(min=1, help="Streams of edges.", rich_help_panel="The engine")]
CacheMb = Annotated[
    int,
    typer.Option(
        "--cache-mb", min=0, help="MiB of answers and features kept; 0: off.", rich_help_panel="What is kept"
    ),
]
RedisUrl = Annotated[
    str,
    typer.Option(
        "--redis",
        envvar="CLEAVE_REDIS",
        metavar="URL",
        help="Keep answers and features in Redis, which several clouds may share, instead of in memory: "
        "redis://host:port/db, or rediss://user:password@host:port/db for TLS.",
        rich_help_panel="What is kept",
    ),
]
PrefixMb = Annotated[
    int,
    typer.Option(
        "--prefix-mb",
        min=0,
        help="MiB of keys and values of prompts kept, for the next question on a picture; 0: off.",
        rich_help_panel="What is kept",
    ),
]
DefaultDeadline = Annotated[float, typer.Option(help="Seconds per request where the edge sets none.")]
Drain = Annotated[float, typer.Option(help="Seconds that open requests get after SIGTERM.")]
MetricsListen = Annotated[
    str,
    typer.Option(
        "--metrics-listen",
        help="host:port to serve GET /metrics on, for Prometheus, such as 127.0.0.1:9100; off without.",
    ),
]

# cleave ask
Question = Annotated[
    str, typer.Argument(help="What to ask about them; leave it out for a model that takes no question.")
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--image", help="A picture: JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF; may be given several times."
    ),
]
Sounds = Annotated[
    list[Path] | None,
    typer.Option("--sound", help="A sound: WAV, FLAC, Ogg, Opus or MP3; may be given several times."),
]
Splits = Annotated[
    list[int] | None,
    typer.Option(
        "--split", help="Split point, for all or once for each input; the bundle's default without it."
    ),
]
Codecs = Annotated[
    list[str] | None,
    typer.Option(
        "--codec",
        help="Such as raw, fp16+zstd or int8:token; to send the input itself, jpeg:90, opus:24 or as-is. For all, or "
        "once for each input; the bundle's default without it.",
    ),
]
Language = Annotated[
    str | None, typer.Option(help="Of the answer, such as fr, where the model knows several.")
]
Task = Annotated[str | None, typer.Option(help="Such as translate, where the model knows several.")]
ServedModel = Annotated[
    str | None,
    typer.Option(help="One of the cloud's models; without it the one known here, at first its first."),
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Most tokens of the answer.")]
MinTokens = Annotated[int | None, typer.Option(min=0, help="Fewest tokens of the answer.")]
Temperature = Annotated[
    float | None, typer.Option(min=0, help="0 takes the most likely token; the model's own without it.")
]
TopK = Annotated[int | None, typer.Option(min=0, help="Draw from this many tokens; 0: all.")]
TopP = Annotated[float | None, typer.Option(help="Draw from the likeliest tokens that sum to this; 1: all.")]
MinP = Annotated[
    float | None, typer.Option(help="Draw from tokens at least this likely against the likeliest.")
]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Above 1: tokens that were there before get less likely.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Draws the same tokens again.")]
Stop = Annotated[
    list[str] | None, typer.Option(help="End the answer before this text; may be given several times.")
]
Priority = Annotated[
    int, typer.Option(min=0, max=MAX_PRIORITY, help="A step goes before what came a little earlier.")
]
Deadline = Annotated[float | None, typer.Option(help="Seconds that the answer may take.")]
