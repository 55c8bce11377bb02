"""The command line: one function per command, which parses, calls, prints, and imports what it needs then."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

import cleave.environment  # noqa: F401
from cleave.cli_cloud import cloud
from cleave.cli_device import index, listen, search
from cleave.cli_doctor import doctor
from cleave.cli_health import health
from cleave.cli_token import token
from cleave.cli_trust import keygen, sign, trust
from cleave.connecting import Connection, connects, reaching, using
from cleave.options import (
    AsJson,
    Codecs,
    Deadline,
    Images,
    Language,
    MaxTokens,
    MinP,
    MinTokens,
    Model,
    Priority,
    Question,
    RepetitionPenalty,
    Seed,
    ServedModel,
    Sounds,
    Splits,
    Stop,
    Task,
    Temperature,
    TopK,
    TopP,
)
from wire.errors import CleaveError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Splits a multimodal model between a device and the cloud, token for token.",
)


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
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="A size of pictures to list, such as 640x480, where the model makes another input of every size; "
            "may be given several times."
        ),
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

    if not make_bundle(
        model, out, calibration=calibration, sizes=size or (), name=name, verify=verify, as_json=as_json
    ):
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
@connects(using)
def ask(
    connection: Connection,
    question: Question = "",
    image: Images = None,
    sound: Sounds = None,
    split: Splits = None,
    codec: Codecs = None,
    model: ServedModel = None,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    stop: Stop = None,
    language: Language = None,
    task: Task = None,
    priority: Priority = 0,
    deadline_s: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Ask about pictures and sounds: heads here, tails and decoder in the cloud. Needs only the cloud's address.

    cleave ask --cloud 127.0.0.1:50051 --image photo.jpg "What is this?"
    """
    from cleave.asking import ask_and_print

    ask_and_print(
        connection, question, image or [], sound or [], as_json=as_json, model=model, split=split, codec=codec,
        language=language, task=task, max_new_tokens=max_tokens, min_new_tokens=min_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty,
        seed=seed, stop=stop or (), priority=priority, deadline_s=deadline_s,
    )  # fmt: skip


@app.command()
@connects(reaching)
def describe(
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """Show a cloud's models, split points with labels and sizes, codecs and limits."""
    from cleave.describing import describe_and_print

    describe_and_print(connection, as_json=as_json)


@app.command()
@connects(reaching)
def top(
    connection: Connection,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between readings.")] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Watch for one interval, print one table, and end.")
    ] = False,
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

    top_and_print(
        connection,
        interval_s=interval,
        once=once,
        as_json=as_json,
    )


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
    name: Annotated[
        str,
        typer.Argument(
            help="exact, footprint, accuracy, batch, repeat, mixed-split, soak, coverage, speech, retrieval, "
            "overhead, overload or faults."
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="A sample, in about a minute.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="A folder of data sets, for benchmarks that take any.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment: prints a table, writes bench/results/NAME.json, exits 1 when a bar is missed."""
    from bench.command import run_benchmark

    if not run_benchmark(name, quick=quick, data=data, as_json=as_json):
        raise typer.Exit(1)


for command in (cloud, listen, index, search, doctor, health, keygen, sign):
    app.command()(command)
app.add_typer(token, name="token")
app.add_typer(trust, name="trust")


def main() -> None:
    """Runs the command line; a known error is one sentence on standard error and exit code 1."""
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
