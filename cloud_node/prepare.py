"""The runner's preparing half: payloads through codec, tails in batches and the model's own fusion to prompts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_node.answer_text import AnswerText
from cloud_node.detokenise import Detokeniser
from cloud_node.prefix import prefix_key
from cloud_node.prompt import ModelPrompt, chunk_cuts
from cloud_node.sampling import make_choice, stop_ids_of
from cloud_node.sequence import Sequence as Generation
from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.batching import BatchedChain, Entry
from splitmodel.decoder import Decoder
from splitmodel.tensors import from_numpy
from wire.codecs import decode, parse_codec
from wire.errors import ModelFailed, TooLarge
from wire.tensors import TensorSpec


class Preparer:
    """Prepares requests to one model; `context_tokens` is the longest that prompt and answer may be together.

    `boundaries` are the tensors of every split point as the wire has them; the chain may compute in another dtype.
    """

    def __init__(
        self,
        adapter: GeneratorWithEncoders,
        encoder: Encoder,
        boundaries: Sequence[Sequence[TensorSpec]],
        example: Sequence[Tensor],
        context_tokens: int,
    ) -> None:
        self.adapter = adapter
        self.encoder = encoder
        self.boundaries = boundaries
        self.decoder = Decoder(adapter.model)
        self.context_tokens = context_tokens
        self.tails = BatchedChain(encoder.chain, example)
        self._stop_ids = stop_ids_of(adapter.model.generation_config)

    def prepare(self, sequences: Sequence[Generation]) -> Iterator[Exception | None]:
        """Makes one after the other ready for the decoder, their tails together; for each, why it could not be."""
        failures: dict[int, Exception] = {}
        entries: dict[int, Entry] = {}
        for index, sequence in enumerate(sequences):
            try:
                entries[index] = self._entry(sequence)
            except Exception as error:
                failures[index] = error
        started = time.monotonic()
        failures.update(self._run_tails(entries))
        tail_s = time.monotonic() - started
        for index, sequence in enumerate(sequences):
            sequence.times.tail_s = tail_s if index in entries else 0.0
            yield failures.get(index) or self._fuse(sequence, entries[index].tensors)

    def tail(self, arrays: Sequence[NDArray[Any]], split_point: int) -> list[Tensor]:
        """Features at a split point, as the wire has them, to the chain's last tensors."""
        return self.encoder.chain.run(self._tensors(arrays, split_point), split_point)

    def _entry(self, sequence: Generation) -> Entry:
        """The features that a payload stands for."""
        request, started = sequence.request, time.monotonic()
        specs = self.boundaries[request.split_point]
        arrays = decode(parse_codec(request.codec), sequence.payload, request.payload_sizes, specs)
        tensors = self._tensors(arrays, request.split_point)
        sequence.times.decode_payload_s = time.monotonic() - started
        return Entry(request.split_point, tensors)

    def _tensors(self, arrays: Sequence[NDArray[Any]], split_point: int) -> list[Tensor]:
        model = self.adapter.model
        pairs = zip(arrays, self.boundaries[split_point], strict=True)
        tensors = [from_numpy(np.asarray(array), spec).to(model.device) for array, spec in pairs]
        return [tensor.to(model.dtype) if tensor.is_floating_point() else tensor for tensor in tensors]

    def _run_tails(self, entries: dict[int, Entry]) -> dict[int, Exception]:
        """Together; where that fails, one by one, so that a failure is its own request's."""
        before = {index: (entry.split_point, list(entry.tensors)) for index, entry in entries.items()}
        try:
            self.tails.run(list(entries.values()))
            return {}
        except Exception:
            failures: dict[int, Exception] = {}
            for index, (split_point, tensors) in before.items():
                try:
                    entries[index].tensors = self.encoder.chain.run(tensors, split_point)
                except Exception as error:
                    failures[index] = error
            return failures

    def _fuse(self, sequence: Generation, features: Sequence[Tensor]) -> Exception | None:
        """The model's own fusion, as a prompt."""
        started = time.monotonic()
        try:
            prompt = self._prompt(sequence, features)
        except Exception as error:
            return error
        text = AnswerText(Detokeniser(self.adapter.processing.tokenizer), sequence.request.settings.stop)
        sequence.prepare(prompt, text)
        sequence.times.prefill_s = time.monotonic() - started
        return None

    @torch.no_grad()
    def _prompt(self, sequence: Generation, features: Sequence[Tensor]) -> ModelPrompt:
        if not all(bool(tensor.isfinite().all()) for tensor in features if tensor.is_floating_point()):
            raise ModelFailed("the encoder's output is not finite; send features that are")
        request = sequence.request
        inputs = self.adapter.split_inputs(
            self.encoder, features, request.prompt, request.width, request.height
        )
        room = self.context_tokens - int(inputs["input_ids"].shape[1])
        if room < 1:
            raise TooLarge(
                f"the prompt and the picture have {inputs['input_ids'].shape[1]:,} tokens, and the model reads fewer "
                f"than {self.context_tokens:,} here; ask a shorter question"
            )
        max_new_tokens = min(request.settings.max_new_tokens, room)
        call = self.decoder.record(inputs)
        cuts = chunk_cuts(call.masks)
        return ModelPrompt(
            call=call,
            cuts=cuts,
            choice=make_choice(self.adapter.model, request.settings, call.input_ids.tolist(), max_new_tokens),
            stop_ids=self._stop_ids,
            max_new_tokens=max_new_tokens,
            step_positions=tuple(call.step_position_ids.reshape(-1).tolist()),
            prefix=prefix_key(call, self.decoder.embed_ids(call.input_ids), cuts),
        )
