"""Sequences through the real runner and the real batch, stepped by the test: no threads, no loop, no network."""

from __future__ import annotations

from collections.abc import Sequence as Values
from typing import Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Embeddings, Event, Finished, Sequence, TextDelta
from cloud_node.asked.settings import Settings
from cloud_node.engine.batch import RunningBatch
from cloud_node.engine.scheduler import Scheduler
from cloud_node.engine.telling import Events
from cloud_node.model.serving import AnyRunner
from splitmodel.media import Media, size_of
from splitmodel.tensors import to_numpy
from tests.kit.unobserved import Unobserved
from wire.codecs import encode, parse_codec, split_codec_name
from wire.errors import CleaveError
from wire.media.registry import find_media_codec, is_media_codec
from wire.media.sounds import Sound
from wire.modality import Modality


def coded(
    runner: AnyRunner, media: Media, split: int, codec: str = "raw", fill: float | None = None
) -> tuple[RequestInput, memoryview]:
    """What an edge sends of an input of the first chain that takes such: as a device computes it."""
    tails = runner.preparer.tails
    adapter, modality = tails.adapter, modality_of(media)
    size = size_of(media, adapter.processing.rate_hz)
    tail = next(
        tail
        for tail in tails.by_id.values()
        if tail.encoder.modality == modality and tail.encoder.size in (None, size)
    )
    tiles = [tail.encoder.chain.run(tile, 0, split) for tile in adapter.boundary_input(tail.encoder, media)]
    is_tiled = tail.listed.input_shape.is_tiled
    values = [torch.stack(column) if is_tiled else column[0] for column in zip(*tiles, strict=True)]
    # As a device computes them, whatever the cloud computes in.
    arrays = [to_numpy(value.float() if value.is_floating_point() else value) for value in values]
    if fill is not None:
        arrays = [np.full_like(array, fill) for array in arrays]
    num_tiles = len(tiles) if is_tiled else 0
    parts = encode(parse_codec(codec), arrays, tail.listed.boundary(split, num_tiles))
    payload = b"".join(parts)
    shape_id = tail.listed.input_shape.shape_id
    sizes = tuple(map(len, parts))
    item = RequestInput(modality, shape_id, split, codec, size, sizes, crc32(payload), num_tiles)
    return item, memoryview(payload)


def media_coded(media: Media, codec: str, rate_hz: int) -> tuple[RequestInput, memoryview]:
    """What an edge sends of an input that it only compresses."""
    codec_id, setting = split_codec_name(codec)
    content = Sound(media[None], rate_hz) if isinstance(media, np.ndarray) else media
    data = find_media_codec(codec_id, setting).encode(content, setting)
    size = size_of(media, rate_hz)
    item = RequestInput(modality_of(media), "", 0, codec, size, (len(data),), crc32(data))
    return item, memoryview(data)


def modality_of(media: Media) -> Modality:
    if isinstance(media, Image.Image):
        return "image"
    return "text" if isinstance(media, str) else "audio"


class Asked:
    """A question about an input, or several, each at a split point; and what the engine says of it."""

    def __init__(
        self,
        runner: AnyRunner,
        media: Media | Values[Media],
        prompt: str = "what?",
        *,
        split: int = 0,
        codec: str = "raw",
        fill: float | None = None,
        priority: int = 0,
        **settings: Any,
    ) -> None:
        several = [media] if isinstance(media, (Image.Image, str, np.ndarray)) else media
        is_media = is_media_codec(split_codec_name(codec)[0])
        rate_hz = runner.preparer.adapter.processing.rate_hz
        made = [
            media_coded(one, codec, rate_hz) if is_media else coded(runner, one, split, codec, fill)
            for one in several
        ]
        self.events: list[Event] = []
        asked = Settings(**{"max_new_tokens": 8, "temperature": 0.0, **settings})
        request = Request("r", prompt, asked, 60.0, tuple(item for item, _ in made), priority=priority)
        self.sequence = Sequence(request, tuple(payload for _, payload in made), self.events.append)

    @property
    def end(self) -> Finished | Embeddings | CleaveError | None:
        last = self.events[-1] if self.events else None
        return None if isinstance(last, TextDelta) else last

    @property
    def finished(self) -> Finished:
        assert isinstance(self.end, Finished), self.end
        return self.end

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def token_ids(self) -> list[int]:
        """Those generated so far."""
        prompt: Any = self.sequence.prompt
        return list(prompt.choice.token_ids[prompt.num_tokens :])


class Driven:
    """One batch. `submit` prepares what comes together as one tail batch."""

    def __init__(
        self, runner: AnyRunner, *, num_slots: int = 8, chunk_tokens: int = 64, max_tokens: int = 0
    ) -> None:
        self.runner = runner
        self.scheduler = Scheduler(num_slots, max_tokens, chunk_tokens)
        self.batch = RunningBatch(runner, self.scheduler, Unobserved(), self._deliver)

    def submit(self, *asked: Asked) -> None:
        sequences = [one.sequence for one in asked]
        for one, outcome in zip(asked, self.runner.prepare(sequences), strict=True):
            if outcome is None:
                self.batch.add(one.sequence)
            elif isinstance(outcome, (CleaveError, Embeddings)):
                one.events.append(outcome)
            else:
                raise outcome

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.batch.step()

    @staticmethod
    def _deliver(events: Events) -> None:
        for sequence, event in events:
            sequence.emit(event)

    def finish(self) -> None:
        """Steps until nobody is left."""
        while self.batch.has_work:
            self.step()


def run_alone(runner: AnyRunner, asked: Asked) -> Asked:
    """The same question in a batch of its own."""
    driven = Driven(runner, num_slots=1)
    driven.submit(asked)
    driven.finish()
    return asked


def run_together(runner: AnyRunner, asked: Values[Asked], **settings: Any) -> None:
    driven = Driven(runner, **settings)
    driven.submit(*asked)
    driven.finish()
