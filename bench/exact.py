"""Head + tail against the whole default model: every split point, lossless codec, held-out questions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.report import Bar, Result, Table
from cleave.assets import resolve_model
from cleave.halves import Halves
from cleave.terminal import Report
from cleave.verifying import Question, Verification, verify_chain
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.equality import MAX_TIES_PER_TOKEN
from splitmodel.loading import load
from training.evaluate import held_out_samples

_FULL, _QUICK = 200, 8
_NUM_TOKENS = 48


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Tokens through the real bundle, head, bytes and tail equal those of `model.generate`."""
    questions = [
        Question(sample.image, sample.question) for sample in held_out_samples(_QUICK if quick else _FULL)
    ]
    with tempfile.TemporaryDirectory(prefix="cleave-exact-") as folder:
        made = partition(
            load(resolve_model("default")), Path(folder) / "bundle", preprocess, progress=progress
        )
        halves, chain = Halves.of(made), made.manifest.chain("image")
        splits = []
        for split in verify_chain(halves, chain, questions, _NUM_TOKENS):
            splits.append(split)
            progress("verify", len(splits), len(chain.split_points))
    verification = Verification(tuple(splits))
    num_tokens = sum(split.num_tokens for split in splits)
    bars = [
        Bar("split points in the default model", len(splits), 8, "at least"),
        Bar(
            "answers that differ", sum(s.num_inputs - s.num_equal - s.num_ties for s in splits), 0, "at most"
        ),
        Bar("ties per token", verification.num_ties / num_tokens, MAX_TIES_PER_TOKEN, "at most"),
    ]
    rows = [
        (
            s.split_point,
            s.label,
            s.num_inputs,
            s.num_equal,
            s.num_ties,
            s.num_tokens,
            f"{s.max_logit_error:.2g}",
        )
        for s in splits
    ]
    columns = ("split", "label", "questions", "equal", "ties", "tokens", "largest logit error")
    table = Table("tokens of head + tail against model.generate, codec raw", columns, rows)
    settings = {"quick": quick, "questions": len(questions), "max_new_tokens": _NUM_TOKENS, "codec": "raw"}
    return Result("exact", settings, 0, bars, [table], verification.to_dict())
