"""The runner's preparing half: payloads through codec, tails in batches and what the model makes of their ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Embeddings, Prompt
from cloud_node.asked.sequence import Sequence as Generation
from cloud_node.model.answer_text import AnswerText
from cloud_node.model.detokenise import Detokeniser
from cloud_node.model.tails import AnyTaken, Tails
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.encoder import AnyEncoded
from wire.errors import ModelFailed


class Fusion(Protocol):
    """Encoded inputs to a prompt that a runner takes; one for each way of decoding."""

    def __call__(self, request: Request, encoded: Sequence[AnyEncoded]) -> Prompt: ...


class Preparer:
    """Prepares requests to one model; one that generates nothing has no fusion."""

    def __init__(self, tails: Tails, fusion: Fusion | None) -> None:
        self.tails = tails
        self.adapter = tails.adapter
        self._fusion = fusion

    def prepare(self, sequences: Sequence[Generation]) -> Iterator[Exception | Embeddings | None]:
        """Makes one after the other ready for the decoder, their tails together; for each, why it could not be."""
        taken = [self._take(sequence) for sequence in sequences]
        inputs = [one for made in taken if not isinstance(made, Exception) for one in made]
        started = time.monotonic()
        failures = iter(self.tails.run(inputs))
        tail_s = time.monotonic() - started
        for sequence, made in zip(sequences, taken, strict=True):
            if isinstance(made, Exception):
                yield made
                continue
            sequence.times.tail_s = tail_s
            failed = [error for error in [next(failures) for _ in made] if error is not None]
            yield failed[0] if failed else self._fuse(sequence, made)

    def _take(self, sequence: Generation) -> list[AnyTaken] | Exception:
        """The features that the payloads of a request stand for."""
        started = time.monotonic()
        try:
            pairs = zip(sequence.request.inputs, sequence.payloads, strict=True)
            return [self.tails.take(item, payload) for item, payload in pairs]
        except (
            Exception
        ) as error:  # whatever a peer's payload makes a codec or a processor raise is its request's
            return error
        finally:
            sequence.times.decode_payload_s = time.monotonic() - started

    @torch.no_grad()
    def _fuse(self, sequence: Generation, taken: Sequence[AnyTaken]) -> Exception | Embeddings | None:
        """The model's own fusion, as a prompt; of a dual encoder, its embeddings."""
        started = time.monotonic()
        try:
            encoded = [one.encoded() for one in taken]
            if not all(one.is_finite for one in encoded):
                raise ModelFailed("the encoder's output is not finite; send features that are")
            if self._fusion is None:
                return self._embeddings(sequence, encoded)
            prompt = self._fusion(sequence.request, encoded)
        except Exception as error:
            return error
        text = AnswerText(Detokeniser(self.adapter.processing.part("text")), sequence.request.settings.stop)
        sequence.prepare(prompt, text)
        sequence.times.prefill_s = time.monotonic() - started
        return None

    def _embeddings(self, sequence: Generation, encoded: Sequence[AnyEncoded]) -> Embeddings:
        assert isinstance(self.adapter, DualEncoder)
        sequence.payloads = ()
        vectors = [self.adapter.embedding(one).cpu().numpy() for one in encoded]
        return Embeddings(np.stack(vectors), sequence.times)
