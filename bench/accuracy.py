"""How often the default model is right: exact match per kind of question, from the committed weights."""

from __future__ import annotations

from pathlib import Path

from bench.report import Bar, Result, Table
from cleave.assets import resolve_model
from cleave.terminal import Report
from splitmodel.loading import Checkpoint, load
from training.evaluate import Sample, answers, easy_vqa_samples, exact_match, held_out_samples
from wire.errors import BadInput

LEAST_OVERALL = 0.97
LEAST_WORST = 0.95
LEAST_EASY_VQA = 0.97
_FULL, _QUICK = 4000, 300
_EASY_VQA = "easy_vqa/easy_vqa_data.zip"


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Held-out scenes, and easy-VQA's official test questions where `data` holds its archive."""
    checkpoint = load(resolve_model("default"))
    sets = {"scenes": list(held_out_samples(_QUICK if quick else _FULL))}
    if data is not None:
        found = list(easy_vqa_samples(_archive(data)))
        sets["easy-VQA"] = found[:_QUICK] if quick else found
    by_kind: dict[str, tuple[int, int]] = {}
    for name, samples in sets.items():
        by_kind |= exact_match(samples, _answers(checkpoint, name, samples, progress))
    scenes = {kind: by_kind[kind] for kind in sorted({sample.kind for sample in sets["scenes"]})}
    right, total = (sum(counts[i] for counts in scenes.values()) for i in (0, 1))
    worst = min(scenes, key=lambda kind: scenes[kind][0] / scenes[kind][1])
    bars = [
        Bar("exact match over all kinds", right / total, LEAST_OVERALL, "at least"),
        Bar(
            f"exact match of the worst kind ({worst})",
            scenes[worst][0] / scenes[worst][1],
            LEAST_WORST,
            "at least",
        ),
    ]
    if data is not None:
        asked = [by_kind[kind] for kind in sorted({sample.kind for sample in sets["easy-VQA"]})]
        share = sum(right for right, _ in asked) / sum(count for _, count in asked)
        bars.append(Bar("exact match, easy-VQA's official test", share, LEAST_EASY_VQA, "at least"))
    rows = [(kind, counts[1], 100 * counts[0] / counts[1]) for kind, counts in by_kind.items()]
    rows.append(("all scenes", total, 100 * right / total))
    table = Table("exact match, default model", ("kind", "questions", "%"), rows)
    measured = {"exact_match": {kind: {"right": r, "of": n} for kind, (r, n) in by_kind.items()}}
    return Result("accuracy", {"quick": quick, "easy_vqa": data is not None}, 0, bars, [table], measured)


def _answers(checkpoint: Checkpoint, name: str, samples: list[Sample], progress: Report) -> list[str]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(name, done, len(samples))

    return answers(checkpoint.model, checkpoint.processor, samples, advance)


def _archive(data: Path) -> Path:
    path = data if data.is_file() else data / _EASY_VQA
    if not path.is_file():
        raise BadInput(f"{data} holds no {_EASY_VQA}; give the folder that does, or the archive itself")
    return path
