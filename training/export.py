"""Exports the averaged weights of a training run as a checkpoint in plain Hugging Face format.

python -m training.export --run build/training --out assets/default
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import PreTrainedTokenizerFast

from training.model import Shape, make_model, make_processor
from training.tokenizer import TOKENIZER
from training.trainer import CHECKPOINT


def main(
    run: Annotated[Path, typer.Option(help="The folder that training wrote.")],
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes; its model card stays.")],
) -> None:
    """Write config, weights (float16), tokenizer and processor."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run / TOKENIZER)
    model = make_model(Shape(), tokenizer, seed=0)
    state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    model.load_state_dict(state["average"])
    model.half().save_pretrained(out)
    make_processor(Shape(), tokenizer).save_pretrained(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"step {state['done']}: {out}, {size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
