"""The device's commands beside `ask`: listen, index and search. Each parses, calls, and imports what it needs then."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cleave.options import AsJson, Cloud, Language, ServedModel, Task, Timeout
from cleave.options_seen import Otlp

Split = Annotated[int | None, typer.Option(help="Split point; the bundle's default without it.")]
Codec = Annotated[
    str | None, typer.Option(help="Such as fp16+zstd or jpeg:90; the bundle's default without it.")
]
Index = Annotated[str, typer.Option(help="The index's name; it is made when it is first named.")]


def listen(
    cloud: Cloud,
    sound: Annotated[Path, typer.Argument(help="A sound file; - reads 16-bit samples from standard input.")],
    rate: Annotated[int, typer.Option(min=1000, help="Samples a second, of standard input.")] = 16000,
    realtime: Annotated[bool, typer.Option(help="Play a file at the speed of speech.")] = False,
    every: Annotated[
        float, typer.Option(min=0.05, help="Seconds of new speech between two revisions.")
    ] = 0.5,
    language: Language = None,
    task: Task = None,
    model: ServedModel = None,
    split: Split = None,
    codec: Codec = None,
    timeout_s: Timeout = 10.0,
    otlp: Otlp = None,
    as_json: AsJson = False,
) -> None:
    """Hear speech while it is spoken: features go up as it comes, the text is revised, then final.

    Recordings of any length are cut at their pauses. From a microphone:

        arecord -q -t raw -f S16_LE -r 16000 | cleave listen --cloud 127.0.0.1:50051 -
    """
    from cleave.listening import listen_and_print

    listen_and_print(
        cloud, sound, rate_hz=rate, realtime=realtime, every_s=every, timeout_s=timeout_s, as_json=as_json, otlp=otlp,
        model=model, split=split, codec=codec, language=language, task=task,
    )  # fmt: skip


def index(
    cloud: Cloud,
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    name: Index = "pictures",
    model: ServedModel = None,
    split: Split = None,
    codec: Codec = None,
    timeout_s: Timeout = 10.0,
    otlp: Otlp = None,
    as_json: AsJson = False,
) -> None:
    """Add pictures to an index on the cloud, from features that this device computes; the files stay here.

    cleave index --cloud 127.0.0.1:50051 --model dual holiday/
    """
    from cleave.retrieval import index_and_print

    options = {"model": model, "split": split, "codec": codec}
    if not index_and_print(cloud, paths, name, timeout_s=timeout_s, as_json=as_json, otlp=otlp, **options):
        raise typer.Exit(1)


def search(
    cloud: Cloud,
    text: Annotated[str, typer.Argument(help="Words to search by.")] = "",
    image: Annotated[Path | None, typer.Option(help="A picture to search by.")] = None,
    sound: Annotated[Path | None, typer.Option(help="A sound to search by.")] = None,
    name: Index = "pictures",
    num_hits: Annotated[int, typer.Option("--hits", min=1, max=1000, help="Most items to show.")] = 10,
    model: ServedModel = None,
    split: Split = None,
    codec: Codec = None,
    timeout_s: Timeout = 10.0,
    otlp: Otlp = None,
    as_json: AsJson = False,
) -> None:
    """Search an index by words, a picture or a sound: tokenised and encoded here, compared in the cloud.

    cleave search --cloud 127.0.0.1:50051 --model dual "a red circle"
    """
    from cleave.retrieval import search_and_print

    search_and_print(
        cloud, text, image, sound, name, num_hits, timeout_s=timeout_s, as_json=as_json, otlp=otlp, model=model,
        split=split, codec=codec,
    )  # fmt: skip
