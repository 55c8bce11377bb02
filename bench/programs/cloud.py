"""A cloud node whose settings come as JSON: python -m bench.programs.cloud '{"checkpoint": ..., "config": {...}}'."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.profiling import ServiceProfile
from cloud_node.asked.sequence import Sequence
from cloud_node.caching.redis_settings import parse_redis_url
from cloud_node.config import CloudConfig
from cloud_node.model.runner import ModelRunner
from cloud_node.server import Source, run
from splitmodel.loading import load


def main(told: dict[str, Any]) -> None:
    torch.set_num_threads(told["threads"])
    changes = dict(told["config"])
    limits = changes.pop("limits", {})
    if url := changes.pop("redis", None):
        changes["redis"] = parse_redis_url(url)
    config = CloudConfig(listen="127.0.0.1:0", **changes)
    config = replace(config, limits=replace(config.limits, **limits))
    sequences = _remember_sequences() if told["tokens"] else []
    profile = ServiceProfile(told["rows"]) if told["profile"] else None
    if profile is not None:
        profile.install()
    source = Source(load(told["checkpoint"]), Path(told["bundle"]))
    run(config, [source], lambda address: print(f"listening on {address}", flush=True))
    if told["tokens"]:
        Path(told["tokens"]).write_text(json.dumps(dict(map(_generated, sequences))))
    if profile is not None:
        Path(told["profile"]).write_text(json.dumps(profile.to_dict()))


def _remember_sequences() -> list[Sequence]:
    """All that are prepared from now on: what was chosen for them is on no wire."""
    kept: list[Sequence] = []
    prepare = ModelRunner.prepare

    def remembering(self: ModelRunner, sequences: Any) -> Any:
        for sequence, failure in zip(sequences, prepare(self, sequences), strict=True):
            if failure is None:
                kept.append(sequence)
            yield failure

    ModelRunner.prepare = remembering  # type: ignore[method-assign]
    return kept


def _generated(sequence: Sequence) -> tuple[str, list[int]]:
    prompt: Any = sequence.prompt
    return sequence.request.request_id, list(prompt.choice.token_ids[prompt.num_tokens :])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
