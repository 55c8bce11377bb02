"""The runner: a sequence's payload through codec, tail and the model's own `generate`. The only room with torch."""

from __future__ import annotations

import time
from collections.abc import Sequence as Tensors
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from cloud_node.detokenise import Detokeniser
from cloud_node.request import Settings
from cloud_node.sequence import Emit, Finished, FinishReason, Sequence, TextDelta
from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.tensors import from_numpy
from wire.codecs import decode, parse_codec
from wire.errors import ModelFailed, TooLarge


class ModelRunner:
    """Serves one model: an adapter and its traced encoder."""

    def __init__(self, adapter: GeneratorWithEncoders, encoder: Encoder) -> None:
        self.adapter = adapter
        self.encoder = encoder
        self._stop_ids = _stop_ids(adapter.model.generation_config.eos_token_id)
        text_config = adapter.model.config.get_text_config(decoder=True)
        # A model that states no longest context has none that would be noticed here.
        self._context_tokens: int = getattr(text_config, "max_position_embeddings", None) or 1 << 30

    def run(self, sequence: Sequence, emit: Emit) -> Finished:
        """Codec, tail, prefill and decode; ends early once the sequence is stopped."""
        request, times = sequence.request, sequence.times
        started = time.monotonic()
        specs = self.encoder.chain.split_points[request.split_point].tensors
        codec = parse_codec(request.codec)
        arrays = decode(codec, sequence.payload, request.payload_sizes, specs)
        times.decode_payload_s, started = _lap(started)
        features = self.tail(arrays, request.split_point)
        if not all(bool(tensor.isfinite().all()) for tensor in features if tensor.is_floating_point()):
            raise ModelFailed("the encoder's output is not finite; send features that are")
        times.tail_s, started = _lap(started)
        inputs = self.adapter.split_inputs(
            self.encoder, features, request.prompt, request.width, request.height
        )
        stream = _Stream(Detokeniser(self.adapter.processing.tokenizer), emit)
        prompt_tokens = int(inputs["input_ids"].shape[1])
        settings = self._within_context(request.settings, prompt_tokens)
        self._generate(inputs, settings, sequence, stream)
        times.prefill_s = (stream.first_token_s or time.monotonic()) - started
        times.decode_s = time.monotonic() - started - times.prefill_s
        reason = FinishReason.STOP_TOKEN if stream.last_token_id in self._stop_ids else FinishReason.LENGTH
        return Finished(reason, prompt_tokens, stream.num_tokens, times)

    def tail(self, arrays: Tensors[NDArray[Any]], split_point: int) -> list[torch.Tensor]:
        """Features at a split point to the chain's last tensors."""
        chain = self.encoder.chain
        specs = chain.split_points[split_point].tensors
        device = self.adapter.model.device
        tensors = [from_numpy(np.asarray(a), spec).to(device) for a, spec in zip(arrays, specs, strict=True)]
        return chain.run(tensors, split_point)

    def _within_context(self, settings: Settings, prompt_tokens: int) -> Settings:
        """The answer ends where the model's context does; raises TooLarge where the prompt leaves no room for one."""
        room = self._context_tokens - prompt_tokens
        if room < 1:
            raise TooLarge(
                f"the prompt and the picture have {prompt_tokens:,} tokens, and the model reads fewer than "
                f"{self._context_tokens:,}; ask a shorter question"
            )
        at_least = None if settings.min_new_tokens is None else min(settings.min_new_tokens, room)
        return replace(settings, max_new_tokens=min(settings.max_new_tokens, room), min_new_tokens=at_least)

    def _generate(
        self, inputs: dict[str, Any], settings: Settings, sequence: Sequence, stream: _Stream
    ) -> None:
        if settings.seed is not None:
            torch.manual_seed(settings.seed)
        self.adapter.generate(
            inputs,
            **settings.generate_arguments(),
            streamer=stream,
            stopping_criteria=StoppingCriteriaList([_Stopped(sequence)]),
        )


class _Stopped(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """Ends `generate` at the next token once its sequence is stopped."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        is_stopped = self._sequence.stopped_by is not None
        return torch.full((input_ids.shape[0],), is_stopped, dtype=torch.bool, device=input_ids.device)


class _Stream(BaseStreamer):  # type: ignore[misc]
    """Turns the ids that `generate` gives, the prompt's first, into deltas of whole characters."""

    def __init__(self, detokeniser: Detokeniser, emit: Emit) -> None:
        self._detokeniser = detokeniser
        self._emit = emit
        self._is_prompt = True
        self._num_told = 0
        self.num_tokens = 0
        self.last_token_id = -1
        self.first_token_s: float | None = None

    def put(self, value: torch.Tensor) -> None:
        if self._is_prompt:
            self._is_prompt = False
            return
        if self.first_token_s is None:
            self.first_token_s = time.monotonic()
        self.last_token_id = int(value.reshape(-1)[-1])
        self.num_tokens += 1
        text = self._detokeniser.push(self.last_token_id)
        if text is not None:
            self._tell(text)

    def end(self) -> None:
        """Tells what an unfinished character held back."""
        if self._num_told < self.num_tokens:
            self._tell(self._detokeniser.flush())

    def _tell(self, text: str) -> None:
        self._emit(TextDelta(text, self._num_told, self.num_tokens - self._num_told))
        self._num_told = self.num_tokens


def _lap(started: float) -> tuple[float, float]:
    now = time.monotonic()
    return now - started, now


def _stop_ids(eos_token_id: int | list[int] | None) -> frozenset[int]:
    if eos_token_id is None:
        return frozenset()
    return frozenset([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id)
