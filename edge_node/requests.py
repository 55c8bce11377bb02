"""A request on the device, from what was given to its end: inputs encoded, sent, and what comes of them heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from edge_node.answer import texts_of
from edge_node.asking import Sent
from edge_node.encoding import Encoded, Encoder
from edge_node.link import CloudLink
from edge_node.models import Models, ServedModel
from edge_node.once_more import once_more
from edge_node.opening import is_hash_first, opening_of
from edge_node.patience import Patience
from edge_node.report import AnswerReport
from edge_node.retrieval import embedded_of
from edge_node.tracing import Trace, Tracer, traced, traced_items
from edge_node.wanted import Wanted
from wire.errors import BadInput
from wire.v1 import inference_pb2 as pb


class Requests:
    """Of one device; `cloud` gives the link, which is made when it is first needed."""

    def __init__(
        self,
        models: Models,
        encoder: Encoder,
        cloud: Callable[[], CloudLink],
        patience: Patience,
        tracer: Tracer,
    ) -> None:
        self._models = models
        self.encoder = encoder
        self._cloud = cloud
        self._patience = patience
        self._tracer = tracer

    def texts(self, wanted: Wanted, report: AnswerReport) -> AsyncGenerator[str, None]:
        """The answer as it comes; the report goes along."""
        return traced_items(
            self._tracer, "ask", lambda trace: self._answer(wanted, report, Sent(trace=trace))
        )

    async def _answer(self, wanted: Wanted, report: AnswerReport, sent: Sent) -> AsyncGenerator[str, None]:
        started = time.perf_counter()
        async with aclosing(
            once_more(self._models, lambda: self._texts(wanted, report, started, sent))
        ) as texts:
            async for text in texts:
                yield text

    async def _texts(
        self, wanted: Wanted, report: AnswerReport, started: float, sent: Sent
    ) -> AsyncGenerator[str, None]:
        served, encoded = await self._encoded(wanted, sent.trace)
        report.model = served.model.name
        report.note_inputs(
            [one.report() for one in encoded],
            sum(one.times.encode_s for one in encoded),
            sum(one.times.codec_s for one in encoded),
        )
        sizes = [len(one.coded.payload) for one in encoded]
        try:
            async with (
                aclosing(self._downs(served, wanted, encoded, sent)) as downs,
                aclosing(texts_of(downs, sizes, report, started)) as texts,
            ):
                async for text in texts:
                    yield text
        finally:
            report.note_sent([sent.by_input[index] for index in range(len(encoded))], sent.message_bytes)
            report.num_resumed = sent.num_resumed
        report.note_media([await asyncio.to_thread(one.media_bytes) for one in encoded])

    async def embedded(self, wanted: Wanted) -> pb.Embedded:
        if len(wanted.inputs) != 1:
            raise BadInput(f"there are {len(wanted.inputs)} inputs, and one has an embedding; give one")
        with traced(self._tracer, "embed") as trace:
            async with aclosing(
                once_more(self._models, lambda: self._embeddings(wanted, trace))
            ) as embeddings:
                return await anext(embeddings)

    async def _embeddings(self, wanted: Wanted, trace: Trace) -> AsyncGenerator[pb.Embedded, None]:
        """One."""
        served, encoded = await self._encoded(wanted, trace)
        async with aclosing(self._downs(served, wanted, encoded, Sent(trace=trace))) as downs:
            yield await embedded_of(downs, self._cloud().address)

    async def _encoded(self, wanted: Wanted, trace: Trace) -> tuple[ServedModel, list[Encoded]]:
        given = await asyncio.to_thread(wanted.inputs.read)
        served = await self._models.get(wanted.model, self._cloud())
        encoded = await self.encoder.encode(served, given, wanted.wishes(), self._cloud())
        for one in encoded:
            one.trace(trace)
        return served, encoded

    def _downs(
        self, served: ServedModel, wanted: Wanted, encoded: Sequence[Encoded], sent: Sent
    ) -> AsyncGenerator[pb.Down, None]:
        """Sends the request; what the cloud says of it."""
        return self._cloud().ask(
            opening_of(served, wanted, encoded, sent.trace),
            [one.coded.payload for one in encoded],
            sent,
            hash_first=is_hash_first(wanted, encoded),
            patience=self._patience,
        )
