"""Exports the averaged weights of a speech training run as a checkpoint in plain Hugging Face format.

python -m training.speech.export --run build/speech --out assets/speech
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from training.checkpoints import CHECKPOINT
from training.speech.model import Shape, make_model, make_processor
from training.speech.tokenizer import make_tokenizer

_READABLE = 0o644


def export(run: Path, out: Path) -> int:
    """Config, weights (float16), tokenizer and processor; returns the step they are from."""
    tokenizer = make_tokenizer()
    state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    shape = Shape(**state["shape"])
    model = make_model(shape, tokenizer, seed=0)
    model.load_state_dict(state["average"])
    model.half().save_pretrained(out)
    make_processor(shape, tokenizer).save_pretrained(out)
    (out / "model.safetensors").chmod(_READABLE)
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
