"""What the coverage experiment found of a family, and docs/coverage.md, which is written from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wire.manifest import Chain

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
_HEAD = """# Which models are verified

Written by `cleave bench coverage`; do not edit. Every family below is built tiny and random, with its own processor, so
that its answer depends on every input, and asked through the real path: the device's preprocessing and ONNX head, the
wire, the cloud's tail and engine, at **every split point**, with a lossless codec, on eight inputs that were not
traced, one of them constant; generators also about two inputs in one request. *As the whole* counts those that are the
whole model's own, token for token (embeddings: to 1e-5).

Nothing is written per family: a model of another family with the same shape goes the same way, and `cleave verify`
says whether it holds. Real weights are not part of this page.

| family | shape | inputs | split points | as the whole | tails of several requests | decoding |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Covered:
    """One family, and what was found of it; `reason` says why where it is not verified."""

    family: str
    kind: str
    architecture: str = ""
    chains: Sequence[Chain] = ()
    tails: str = ""
    decoding: str = ""
    num_answers: int = 0
    num_equal: int = 0
    largest_error: float = 0.0  # of embeddings
    seconds: float = 0.0
    reason: str = ""

    @property
    def num_split_points(self) -> int:
        return sum(len(chain.split_points) for chain in self.chains)

    @property
    def is_ok(self) -> bool:
        return not self.reason and 0 < self.num_answers == self.num_equal


def write_page(covered: Sequence[Covered], page: Path = PAGE) -> None:
    """Replaces the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    rows = [_row(one) for one in covered if not one.reason]
    refused = [f"- **{one.family}**: {one.reason}" for one in covered if one.reason]
    text = _HEAD + "\n".join(rows) + "\n"
    if refused:
        text += "\n## Not served\n\n" + "\n".join(refused) + "\n"
    page.write_text(text, "utf-8")


def _row(one: Covered) -> str:
    modalities = dict.fromkeys(chain.modality for chain in one.chains)
    inputs = "; ".join(_inputs([c for c in one.chains if c.modality == modality]) for modality in modalities)
    points = " + ".join(str(len(chain.split_points)) for chain in one.chains)
    equal = f"{one.num_equal} of {one.num_answers}"
    return (
        f"| {one.architecture} | {one.kind} | {inputs} | {points} | {equal} | {one.tails} | {one.decoding} |"
    )


def _inputs(chains: Sequence[Chain]) -> str:
    shape = chains[0].input_shape
    if shape.is_tiled:
        return f"{chains[0].modality}, in tiles"
    if shape.width is not None or shape.samples is not None:
        return f"{chains[0].modality}, a chain per listed size"
    return f"{chains[0].modality}, one shape"
