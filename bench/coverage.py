"""Coverage: families of every shape, tiny and random, each verified at every split point through the real path.

The device's preprocessing and ONNX head, the wire over gRPC, the cloud's tail, fusion and engine; against the whole
model's own `generate`, or its own embedding. Before that, zeroed and other features must change what it says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench import zoo
from bench.coverage_page import Covered, write_page
from bench.in_process import cloud_thread, run_there
from bench.report import Bar, Result, Table
from cleave.halves import Halves
from cleave.terminal import Report
from cleave.verifying import EMBEDDING_TOLERANCE, Question, make_questions, require_sensitive
from cloud_node.model.detokenise import Detokeniser
from cloud_node.model.serving import serve
from cloud_node.ready import Ready
from edge_node.node import AsyncEdgeNode
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned, Wishes, partition
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.loading import load
from splitmodel.media import Media, MediaInput
from wire.errors import BadInput, CleaveError
from wire.manifest import Chain
from wire.sizes import ImageSize, SoundSize

NUM_TOKENS = 8
# Of the models that make another input of every size.
_SIZES = (ImageSize(96, 64), ImageSize(64, 64), SoundSize(8_000, 16_000), SoundSize(24_000, 16_000))


_COLUMNS = (
    "family",
    "shape",
    "chains",
    "split points",
    "as the whole",
    "tails",
    "decoding",
    "seconds",
    "why not",
)


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """All families of the zoo; a quick run takes one of each shape, on fewer inputs."""
    names = [(kind, name) for kind, listed in zoo.NAMES.items() for name in listed]
    if quick:
        names = [(kind, name) for kind, name in names if name in zoo.SAMPLE]
    covered = []
    for done, (kind, name) in enumerate(names):
        progress("coverage", done, len(names))
        covered.append(cover(kind, name, num_inputs=4 if quick else 8))
    progress("coverage", len(names), len(names))
    if not quick:
        write_page(covered)
    served = [one for one in covered if not one.reason]
    rows = [
        (c.family, c.kind, len(c.chains), c.num_split_points, f"{c.num_equal} of {c.num_answers}", c.tails, c.decoding,
         f"{c.seconds:.0f}", c.reason[:60])
        for c in covered
    ]  # fmt: skip
    return Result(
        name="coverage",
        settings={"quick": quick, "num_tokens": NUM_TOKENS, "families": [name for _, name in names]},
        seed=0,
        bars=[
            Bar("answers that differ from the whole model's", sum(c.num_answers - c.num_equal for c in served), 0,
                "at most"),
            Bar("families verified at every split point", sum(c.is_ok for c in covered),
                5 if quick else 14, "at least"),
        ],
        tables=[Table("families, tiny and random, through the real path", _COLUMNS, rows)],
        measured={c.family: _to_dict(c) for c in covered},
    )  # fmt: skip


def cover(kind: str, name: str, num_inputs: int) -> Covered:
    """Makes, cuts, serves and asks one family."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cleave-coverage-") as folder:
        try:
            checkpoint = load(str(zoo.make(name, Path(folder) / name)))
            wishes = Wishes(name=name, sizes=_SIZES)
            made = partition(checkpoint, Path(folder) / "bundle", preprocess, wishes)
            outcomes = list(_verified(made, Path(folder) / "kept", num_inputs))
        except Exception as error:  # whatever a family raises is what the page tells of it
            told = str(error) if isinstance(error, CleaveError) else f"{type(error).__name__}: {error}"
            told = " ".join(told.replace(f"{folder}/", "").split())
            return Covered(name, kind, reason=told, seconds=time.perf_counter() - started)
        served, _ = serve(checkpoint, made.folder, name)
        return Covered(
            family=name,
            kind=kind,
            architecture=made.manifest.architecture,
            chains=made.manifest.chains,
            tails=", ".join(sorted(set(served.tail_batching.values()))),
            decoding=served.decoding or "none",
            num_answers=len(outcomes),
            num_equal=sum(is_equal for is_equal, _ in outcomes),
            largest_error=max(error for _, error in outcomes),
            seconds=time.perf_counter() - started,
        )


def _verified(made: Partitioned, kept: Path, num_inputs: int) -> Iterator[tuple[bool, float]]:
    """Whether each answer is the whole model's, and by how much an embedding misses it."""
    halves = Halves.of(made, num_threads=1)
    served, runner = serve(made.adapter.checkpoint, made.folder, made.manifest.model)
    with cloud_thread([Ready(served, runner, made.folder)], cache_bytes=0) as address:
        edge = run_there(_edge(address, kept))
        for chain in made.manifest.chains:
            questions = make_questions(halves, chain, num_inputs, seed=3000)
            require_sensitive(halves, chain, questions, NUM_TOKENS)
            for question in questions:
                yield from _asked_everywhere(halves, edge, chain, question)
        if made.manifest.shape == "generator":
            yield from _asked_about_two(halves, edge, made.manifest.chains[0])
        run_there(edge.close())


async def _edge(address: str, kept: Path) -> AsyncEdgeNode:
    return AsyncEdgeNode(address, bundles=kept, num_threads=1)


def _asked_everywhere(
    halves: Halves, edge: AsyncEdgeNode, chain: Chain, question: Question
) -> Iterator[tuple[bool, float]]:
    adapter = halves.adapter
    given = MediaInput(chain.modality, question.media)
    if isinstance(adapter, DualEncoder):
        reference = adapter.whole_embedding(given).numpy()
        for point in chain.split_points:
            vector = run_there(edge.embed(**_media(halves, question.media), split=point.index, codec="raw"))
            error = float(np.abs(vector - reference).max())
            yield error <= EMBEDDING_TOLERANCE, error
        return
    expected = _text(halves, [given], question.prompt)
    for point in chain.split_points:
        media = _media(halves, question.media)
        answer = edge.ask(
            question.prompt, **media, split=point.index, codec="raw", max_new_tokens=NUM_TOKENS, temperature=0
        )
        yield run_there(answer.text()) == expected[0] and answer.report.generated_tokens == expected[1], 0.0


def _asked_about_two(halves: Halves, edge: AsyncEdgeNode, chain: Chain) -> Iterator[tuple[bool, float]]:
    """Two inputs in one request, each at a split point of its own."""
    first, second = make_questions(halves, chain, 4, seed=4000)[1:3]
    inputs = [MediaInput(chain.modality, one.media) for one in (first, second)]
    try:
        expected = _text(halves, inputs, first.prompt)
    except BadInput:  # the model's own processor takes one at a time
        return
    name = "images" if chain.modality == "image" else "sounds"
    media: dict[str, Any] = {name: [_source(halves, one.media) for one in (first, second)]}
    last = len(chain.split_points) - 1
    answer = edge.ask(
        first.prompt, **media, split=[last // 2, last], codec="raw", max_new_tokens=NUM_TOKENS, temperature=0
    )
    yield run_there(answer.text()) == expected[0] and answer.report.generated_tokens == expected[1], 0.0


def _text(halves: Halves, inputs: Sequence[MediaInput], prompt: str) -> tuple[str, int]:
    """The whole model's answer as the cloud writes it, and its number of tokens."""
    tokens = halves.whole(inputs, prompt, NUM_TOKENS).tokens
    writer = Detokeniser(halves.adapter.processing.part("text"))
    pieces = [writer.push(token) or "" for token in tokens]
    return "".join([*pieces, writer.flush()]), len(tokens)


def _media(halves: Halves, media: Media) -> dict[str, Any]:
    """As the keyword by which an edge node takes it."""
    if isinstance(media, str):
        return {"text": media}
    name = "image" if isinstance(media, Image.Image) else "sound"
    return {name: _source(halves, media)}


def _source(halves: Halves, media: Media) -> Any:
    return media if isinstance(media, Image.Image) else (media, halves.adapter.processing.rate_hz)


def _to_dict(covered: Covered) -> dict[str, object]:
    return {
        "kind": covered.kind,
        "architecture": covered.architecture,
        "chains": {chain.chain_id: len(chain.split_points) for chain in covered.chains},
        "tails": covered.tails,
        "decoding": covered.decoding,
        "answers": covered.num_answers,
        "equal": covered.num_equal,
        "largest_error": covered.largest_error,
        "reason": covered.reason,
    }
