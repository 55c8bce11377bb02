"""The command line: one function per command, which parses, calls, prints, and imports what it needs then."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wire.errors import CleaveError
from wire.limits import MAX_PRIORITY

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Splits a multimodal model between a device and the cloud, token for token.",
)

Model = Annotated[
    str, typer.Option("--model", help="A Hugging Face checkpoint directory, a hub id, or 'default'.")
]
Cloud = Annotated[str, typer.Option("--cloud", help="The cloud node's address, host:port.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to wait until the cloud can be reached.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def partition(
    model: Annotated[
        str, typer.Argument(help="A Hugging Face checkpoint directory, a hub id, or 'default'.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The bundle's folder; a bundle that is there is replaced.")
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures like those to be asked about; made ones by default."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The name to serve it under; the checkpoint's own by default.")
    ] = "",
    verify: Annotated[bool, typer.Option(help="Compare head + tail with the whole model afterwards.")] = True,
    as_json: AsJson = False,
) -> None:
    """Cut a model into a bundle: trace, cut, export, calibrate, verify.

    The bundle is what a device fetches and what the cloud serves. For example:

        cleave partition default --out build/default
    """
    from cleave.make_bundle import make_bundle

    if not make_bundle(model, out, calibration=calibration, name=name, verify=verify, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    model: Model,
    inputs: Annotated[
        int, typer.Option(min=8, help="Pictures to compare on, none of them traced, one constant.")
    ] = 8,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens per answer.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Compare head + tail with the whole model at every split point; exit 1 where they differ."""
    from cleave.verifying import verify_and_print

    if not verify_and_print(bundle, model, inputs, tokens, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def cloud(
    model: Model,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="What `cleave partition` made of this model; made and kept by itself without."
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="host:port; port 0 takes a free one.")] = "127.0.0.1:50051",
    name: Annotated[
        str, typer.Option(help="The name to serve the model under; the bundle's by default.")
    ] = "",
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 64,
    deadline_s: Annotated[float, typer.Option(help="Seconds per request where the edge sets none.")] = 60.0,
    drain_s: Annotated[float, typer.Option(help="Seconds that open requests get after SIGTERM.")] = 30.0,
    cache_mb: Annotated[
        int, typer.Option("--cache-mb", min=0, help="MiB of answers and features to keep; 0: none.")
    ] = 256,
    metrics_listen: Annotated[
        str,
        typer.Option(
            "--metrics-listen",
            help="host:port to serve GET /metrics on, for Prometheus, such as 127.0.0.1:9100; off without.",
        ),
    ] = "",
) -> None:
    """Serve the tail, the fusion and the decoder to edge nodes; SIGTERM drains.

    Without any authentication configured it should listen on loopback only.
    """
    from cleave.serving import serve_cloud

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("cloud_node").setLevel(logging.INFO)
    serve_cloud(
        model,
        bundle,
        listen=listen,
        name=name,
        max_queue=max_queue,
        default_deadline_s=deadline_s,
        drain_s=drain_s,
        cache_bytes=cache_mb << 20,
        metrics_listen=metrics_listen,
    )


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask about the picture.")],
    cloud: Cloud,
    image: Annotated[
        Path, typer.Option("--image", help="The picture: JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF.")
    ],
    split: Annotated[int | None, typer.Option(help="Split point; the bundle's default without it.")] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Such as raw, fp16+zstd or int8:token; the bundle's default without it."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="One of the cloud's models; its first without it.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of the answer.")] = None,
    min_tokens: Annotated[int | None, typer.Option(min=0, help="Fewest tokens of the answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 takes the most likely token; the model's own without it.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=0, help="Draw from this many tokens; 0: all.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens that sum to this; 1: all.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Draw from tokens at least this likely against the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: tokens that were there before get less likely.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draws the same tokens again.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End the answer before this text; may be given several times.")
    ] = None,
    priority: Annotated[
        int, typer.Option(min=0, max=MAX_PRIORITY, help="A step goes before what came a little earlier.")
    ] = 0,
    deadline_s: Annotated[float | None, typer.Option(help="Seconds that the answer may take.")] = None,
    timeout_s: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Ask about a picture: head here, tail and decoder in the cloud. Needs only the cloud's address.

    cleave ask --cloud 127.0.0.1:50051 --image photo.jpg "What is this?"
    """
    from cleave.asking import ask_and_print

    ask_and_print(
        cloud, question, image, timeout_s=timeout_s, as_json=as_json, model=model, split=split, codec=codec,
        max_new_tokens=max_tokens, min_new_tokens=min_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
        min_p=min_p, repetition_penalty=repetition_penalty, seed=seed, stop=stop or (), priority=priority,
        deadline_s=deadline_s,
    )  # fmt: skip


@app.command()
def describe(cloud: Cloud, timeout_s: Timeout = 10.0, as_json: AsJson = False) -> None:
    """Show a cloud's models, split points with labels and sizes, codecs and limits."""
    from cleave.describing import describe_and_print

    describe_and_print(cloud, timeout_s=timeout_s, as_json=as_json)


@app.command()
def top(
    cloud: Cloud,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between readings.")] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Watch for one interval, print one table, and end.")
    ] = False,
    timeout_s: Timeout = 10.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per interval and nothing else.")
    ] = False,
) -> None:
    """Watch a cloud at work: requests, slots, batches, tokens, seconds per step, caches. Ctrl-C ends it.

    Rates are of the last interval, times (p50, p95) of the last ten. The numbers are those of docs/metrics.md.

        cleave top --cloud 127.0.0.1:50051

        cleave top --cloud 127.0.0.1:50051 --once --json
    """
    from cleave.top import top_and_print

    top_and_print(cloud, interval_s=interval, once=once, timeout_s=timeout_s, as_json=as_json)


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="The model to ask.")] = "default",
    codec: Annotated[
        str | None, typer.Option(help="One codec for all questions; several by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the main job: a cloud node and an edge node as two processes, questions about sample pictures."""
    from cleave.demo.main import run_demo

    if not run_demo(model, codec, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="exact, footprint or accuracy.")],
    quick: Annotated[bool, typer.Option("--quick", help="A sample, in under 60 s.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="A folder of data sets, for benchmarks that take any.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment: prints a table, writes bench/results/NAME.json, exits 1 when a bar is missed."""
    from bench.command import run_benchmark

    if not run_benchmark(name, quick=quick, data=data, as_json=as_json):
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; a known error is one sentence on standard error and exit code 1."""
    # Before torch loads: its threads, waiting in a spin, would take the cores from whatever else runs on this
    # machine and make small models many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # gRPC tells of lost connections by itself, beside the one sentence that we have for them.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        app(standalone_mode=True)
    except CleaveError as error:
        if "--json" in sys.argv:
            print(
                json.dumps({"ok": False, "error": {"code": error.code.name.lower(), "message": str(error)}})
            )
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
