"""Runs the demo: starts both processes, plans the questions, shows what the edge tells."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from cleave.assets import assets_folder, resolve_model
from cleave.processes import cloud_process
from cleave.redis_process import RedisProcess, redis_process
from cleave.terminal import print_table, printable
from edge_node.blocking import EdgeNode
from wire.errors import CleaveError, Unavailable

_CODECS = ("int8:token+zstd", "fp16", "int8:channel", "raw+zstd")
_EDGE_TIMEOUT_S = 120.0
_STEPS = ("encode", "codec", "upload", "queue", "tail", "prefill", "first_token", "total")
_COLUMNS = (
    "split", "label", "codec", "JPEG bytes", "feature bytes", "sent", "cache",
    *(step.replace("_", " ") for step in _STEPS),
)  # fmt: skip


def run_demo(model: str, codec: str | None, *, as_json: bool) -> bool:
    """True where every question was answered as expected. As JSON, prints one object and nothing else."""
    console = Console(stderr=as_json, quiet=as_json)
    answers: list[dict[str, Any]] = []
    try:
        with (
            redis_process() as redis,
            console.status("starting a cloud node"),
            _cloud(model, redis) as (address, pid),
        ):
            items = plan(_samples(), _num_split_points(address), codec)
            console.print(f"cloud node: process {pid}, {address}; its cache is in {_place(redis)}")
            answers = [*_ask(items, address, console)]
    except CleaveError as error:
        if not as_json:
            raise
        print(json.dumps({"answers": answers, "ok": False, "error": str(error)}))
        return False
    ok = all(answer["answer"] == answer["expected"] for answer in answers)
    if as_json:
        print(json.dumps({"answers": answers, "cache_in": _place(redis).partition(":")[0], "ok": ok}))
    else:
        _print(answers)
        print(f"what the cloud had was in {_place(redis)}")
    return ok


def plan(samples: Sequence[dict[str, str]], num_split_points: int, codec: str | None) -> list[dict[str, Any]]:
    """Each picture with an arm: the bundle's default first, then split points from the first to the last.

    A second question about a picture takes the picture's arm; the last picture's first question is asked again.
    """
    pictures = list(dict.fromkeys(sample["image"] for sample in samples))
    last, steps = num_split_points - 1, max(1, len(pictures) - 2)
    arms: dict[str, dict[str, Any]] = {}
    for index, picture in enumerate(pictures):
        split_point = None if index == 0 else round((index - 1) * last / steps)
        chosen = codec or (None if index == 0 else _CODECS[index % len(_CODECS)])
        arms[picture] = {"split_point": split_point, "codec": chosen}
    items = [{**sample, **arms[sample["image"]]} for sample in samples]
    return [*items, next(item for item in items if item["image"] == pictures[-1])]


def _place(redis: RedisProcess | None) -> str:
    return redis.url if redis is not None else "memory"


def _cloud(model: str, redis: RedisProcess | None) -> AbstractContextManager[tuple[str, int]]:
    return cloud_process(resolve_model(model), None, *(("--redis", redis.url) if redis else ()))


def _num_split_points(address: str) -> int:
    with EdgeNode(address) as edge:
        return len(edge.describe().models[0].chains[0].split_points)


def _samples() -> list[dict[str, str]]:
    folder = assets_folder() / "samples"
    samples: list[dict[str, str]] = json.loads((folder / "samples.json").read_text())
    return [{**sample, "image": str(folder / sample["image"])} for sample in samples]


def _ask(items: Sequence[dict[str, Any]], address: str, console: Console) -> Iterator[dict[str, Any]]:
    """Runs the edge process over the plan and shows its text as it comes."""
    command = [sys.executable, "-m", "cleave.demo.edge", address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as edge:
        assert edge.stdin is not None
        assert edge.stdout is not None
        assert edge.stderr is not None
        console.print(f"edge node: process {edge.pid}, no torch\n")
        edge.stdin.write(json.dumps(items))
        edge.stdin.close()
        asked = -1
        for line in edge.stdout:
            event = json.loads(line)
            item = items[event["index"]]
            if event["index"] != asked:
                asked = event["index"]
                console.print(f"{Path(item['image']).name}  [bold]{item['question']}[/bold]  ", end="")
            if "text" in event:
                console.print(printable(event["text"]), end="", markup=False, highlight=False)
            else:
                console.print()
                yield _answer(item, event["report"])
        if edge.wait(_EDGE_TIMEOUT_S):
            raise Unavailable(f"the edge node stopped: {edge.stderr.read().strip()}")


def _answer(item: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "split_point", "split_label", "codec", "feature_bytes", "uploaded_bytes", "sent_bytes", "jpeg_bytes",
        "cache", "ms",
    )  # fmt: skip
    return {
        "image": Path(item["image"]).name,
        "question": item["question"],
        "answer": report["text"].strip(),
        "expected": item["answer"],
        **{name: report[name] for name in kept},
    }


def _print(answers: Sequence[dict[str, Any]]) -> None:
    rows = [
        (
            answer["split_point"],
            answer["split_label"],
            answer["codec"],
            answer["jpeg_bytes"],
            answer["feature_bytes"],
            answer["sent_bytes"],
            "" if answer["cache"] == "miss" else answer["cache"],
            *(f"{answer['ms'].get(step, 0.0):.1f}" for step in _STEPS),
        )
        for answer in answers
    ]
    print()
    print_table("what each answer cost: bytes, and milliseconds by step", _COLUMNS, rows)
    print(_repeated(answers[-3:]))
    right = sum(answer["answer"] == answer["expected"] for answer in answers)
    print(f"{right} of {len(answers)} answers are as expected")
    for answer in answers:
        if answer["answer"] != answer["expected"]:
            print(
                f"  {answer['image']}: {answer['question']} {answer['answer']!r}, expected {answer['expected']!r}"
            )


def _repeated(answers: Sequence[dict[str, Any]]) -> str:
    """What the last picture's second question, and its first one asked again, cost beside the first."""
    first, second, again = answers
    return (
        f"{first['image']}: {first['sent_bytes']:,} bytes and {first['ms']['total']:.1f} ms for its first question, "
        f"{second['sent_bytes']:,} bytes and {second['ms']['total']:.1f} ms for a second one (its features were "
        f"cached), {again['sent_bytes']:,} bytes and {again['ms']['total']:.1f} ms for the first one again (its "
        "answer was)"
    )
