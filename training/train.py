"""Trains the default model: seeded, one command, resumable, on a CPU or a GPU.

    python -m training.train --out build/training [--easy-vqa ZIP] [--resume]

The learning rate follows a cosine over `--steps`; a moving average of the weights is what is exported.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress, TextColumn
from torch import Tensor, nn
from torch.nn import functional

from training.batches import Batch, Mixture
from training.dense import DenseHeads
from training.easy_vqa import read_easy_vqa
from training.model import Shape, make_model
from training.packing import IGNORED, answer_logits
from training.tokenizer import make_tokenizer

_WARMUP_STEPS = 150
_DENSE_ALONE = 0.08  # of all steps, at first: questions wait until the tower sees something
_AVERAGE = 0.998
CHECKPOINT = "checkpoint.pt"


class Trainer:
    """The weights, their average and the optimiser; `step` is a pure function of (state, batch, step number)."""

    def __init__(self, mixture: Mixture, steps: int, seed: int, rate: float, device: str) -> None:
        self.mixture, self.steps, self.seed, self.rate, self.device = mixture, steps, seed, rate, device
        self.model = make_model(mixture.shape, mixture.tokenizer, seed).to(device)
        self.heads = DenseHeads(mixture.shape.vision_width).to(device)
        self.average = copy.deepcopy(self.model)
        self.done = 0
        decayed = [p for p in self._parameters() if p.dim() > 1]
        plain = [p for p in self._parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

    def step(self) -> tuple[float, float]:
        """One batch; the answers' loss and the dense one."""
        batch = self.mixture.batch(self.done, self.seed)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.done)
        with torch.autocast(self.device, torch.bfloat16):
            answers, dense = self._losses(batch)
            share = 1.0 if self.done >= _DENSE_ALONE * self.steps else 0.05
            loss = share * answers + 0.5 * dense
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        self.optimiser.step()
        self.done += 1
        self._update_average()
        return answers.item(), dense.item()

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: getattr(self, name).state_dict() for name in ("model", "heads", "average", "optimiser")
        }
        torch.save({**state, "done": self.done}, folder / f"{CHECKPOINT}.part")
        (folder / f"{CHECKPOINT}.part").replace(folder / CHECKPOINT)

    def restore(self, folder: Path) -> bool:
        """Goes on from a checkpoint, if there is one."""
        if not (folder / CHECKPOINT).is_file():
            return False
        state = torch.load(folder / CHECKPOINT, map_location=self.device, weights_only=True)
        for name in ("model", "heads", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.done = state["done"]
        return True

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tower = self.model.model.vision_tower
        patches = tower(batch.pixels.to(self.device), output_hidden_states=True).hidden_states[-1][:, 1:]
        dense = self.heads(patches.float(), batch.targets.to(self.device))
        features = self.model.model.multi_modal_projector(patches)
        logits = answer_logits(self.model, features, _on(batch.packed, self.device))
        labels = batch.packed.labels.to(self.device)
        answers = functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )
        return answers, dense

    def _parameters(self) -> list[nn.Parameter]:
        return [p for p in (*self.model.parameters(), *self.heads.parameters()) if p.requires_grad]

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / _WARMUP_STEPS)
        return self.rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, step / self.steps))))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(_AVERAGE, self.done / (self.done + 10))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)


def _on(packed: Any, device: str) -> Any:
    return type(packed)(*(getattr(packed, name).to(device) for name in packed.__slots__))


def main(
    out: Annotated[Path, typer.Option(help="Where the checkpoint and the log go.")],
    easy_vqa: Annotated[
        Path | None, typer.Option(help="easy-VQA's archive; scenes alone without it.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = 4000,
    seed: Annotated[int, typer.Option(help="Of the weights and the scenes.")] = 1,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 1e-3,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda"
    if torch.cuda.is_available()
    else "cpu",
) -> None:
    """Train the default model."""
    pictures = read_easy_vqa(easy_vqa, "train") if easy_vqa is not None else []
    trainer = Trainer(Mixture(Shape(), make_tokenizer(), pictures), steps, seed, rate, device)
    if resume:
        trainer.restore(out)
    out.mkdir(parents=True, exist_ok=True)
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns) as bars, (out / "log.jsonl").open("a") as log:
        bar = bars.add_task("training", total=steps, completed=trainer.done, loss="")
        while trainer.done < steps:
            started = time.perf_counter()
            answers, dense = trainer.step()
            line = {
                "step": trainer.done,
                "answers": answers,
                "dense": dense,
                "s": time.perf_counter() - started,
            }
            log.write(json.dumps(line) + "\n")
            bars.update(bar, completed=trainer.done, loss=f"answers {answers:.3f}, dense {dense:.3f}")
            if trainer.done % save_every == 0 or trainer.done == steps:
                log.flush()
                trainer.save(out)


if __name__ == "__main__":
    typer.run(main)
