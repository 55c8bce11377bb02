"""Exports the averaged weights of a training run as a checkpoint in plain Hugging Face format.

python -m training.dual.export --run build/dual --out assets/dual
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import PreTrainedTokenizerFast

from training.checkpoints import CHECKPOINT
from training.dual.model import Shape, make_model, make_processor
from training.dual.train import TOKENIZER


def export(run: Path, out: Path) -> int:
    """Config, weights (float16), tokenizer and processor; returns the step they are from."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run / TOKENIZER)
    state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    model = make_model(Shape(**state["shape"]), tokenizer, seed=0)
    model.load_state_dict(state["average"])
    model.half().save_pretrained(out)
    make_processor(tokenizer).save_pretrained(out)
    return int(state["done"])


def main(
    run: Annotated[Path, typer.Option(help="The folder that training wrote.")],
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes; its model card stays.")],
) -> None:
    """Write the checkpoint."""
    step = export(run, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"step {step}: {out}, {size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
