"""Two loops over a decoder, stepped in turns: the bare one of Hugging Face, and the engine's runner over its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from bench.load import Job
from cloud_node.asked.request import parse_open
from cloud_node.asked.sequence import Sequence as Generation
from cloud_node.asked.served import Bounds, Served
from cloud_node.model.runner import ModelRunner
from wire.limits import Limits
from wire.v1 import inference_pb2 as pb

_BOUNDS = Bounds(Limits(), 600.0, 600.0)


class BareLoop:
    """The outer model's forward over a fixed batch with transformers' own cache; the most likely token, no text."""

    @torch.no_grad()
    def __init__(self, model: Any, num_rows: int, prompt_tokens: int) -> None:
        self._model = model
        self._cache: Any = DynamicCache()
        # Which ids makes no difference to the time; 3 is the picture's placeholder.
        generator = torch.Generator().manual_seed(0)
        size = model.config.get_text_config().vocab_size
        ids = torch.randint(4, size, (num_rows, prompt_tokens), generator=generator)
        logits = model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1).logits
        self._last = logits[:, -1].argmax(-1, keepdim=True)

    @torch.no_grad()
    def steps(self, count: int) -> float:
        """So many tokens per row; returns the seconds that it took."""
        started = time.perf_counter()
        for _ in range(count):
            logits = self._model(input_ids=self._last, past_key_values=self._cache, use_cache=True).logits
            self._last = logits[:, -1].argmax(-1, keepdim=True)
        return time.perf_counter() - started


class RunnerLoop:
    """The runner's rows, prepared and read as the engine does; then its steps alone: no engine, no text."""

    def __init__(self, runner: ModelRunner, served: Served, jobs: Sequence[Job]) -> None:
        self._runner = runner
        self._prompts: list[Any] = []
        for row, sequence in enumerate([_sequence(served, job, index) for index, job in enumerate(jobs)]):
            (failure,) = runner.prepare([sequence])
            if isinstance(failure, Exception):
                raise failure
            prompt: Any = sequence.prompt
            runner.read(prompt, row, runner.begin(prompt, row), prompt.num_tokens)
            self._prompts.append(prompt)
        self.prompt_tokens = int(self._prompts[0].num_tokens)

    def steps(self, count: int) -> float:
        """So many tokens per row; returns the seconds that it took."""
        started = time.perf_counter()
        for _ in range(count):
            self._runner.step(self._prompts)
        return time.perf_counter() - started


def _sequence(served: Served, job: Job, index: int) -> Generation:
    opening = pb.Open()
    opening.CopyFrom(job.opening)
    opening.request_id = f"row-{index}"
    payloads = tuple(memoryview(payload) for payload in job.payloads)
    return Generation(parse_open(opening, served, _BOUNDS), payloads, lambda _: None)
