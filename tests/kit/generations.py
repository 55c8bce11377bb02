"""Sequences through the real runner and the real batch, stepped by the test: no threads, no loop, no network."""

from __future__ import annotations

from collections.abc import Sequence as Values
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from cloud_node.batch import RunningBatch
from cloud_node.request import Request, Settings
from cloud_node.runner import ModelRunner
from cloud_node.scheduler import Scheduler
from cloud_node.sequence import Event, Finished, Sequence, TextDelta
from cloud_node.telling import Events
from splitmodel.tensors import to_numpy
from tests.kit.unobserved import Unobserved
from wire.codecs import encode, parse_codec
from wire.errors import CleaveError


class Asked:
    """A question about a picture at a split point, and what the engine says of it."""

    def __init__(
        self,
        runner: ModelRunner,
        picture: Image.Image,
        prompt: str = "what?",
        *,
        split: int = 0,
        codec: str = "raw",
        fill: float | None = None,
        priority: int = 0,
        **settings: Any,
    ) -> None:
        preparer = runner.preparer
        values = preparer.encoder.chain.run(preparer.adapter.input_tensors(picture), 0, split)
        # As a device computes them, whatever the cloud computes in.
        arrays = [to_numpy(value.float() if value.is_floating_point() else value) for value in values]
        if fill is not None:
            arrays = [np.full_like(array, fill) for array in arrays]
        parts = encode(parse_codec(codec), arrays, preparer.boundaries[split])
        payload = b"".join(parts)
        self.events: list[Event] = []
        asked = Settings(**{"max_new_tokens": 8, "temperature": 0.0, **settings})
        request = Request(
            "r", prompt, asked, 60.0, picture.width, picture.height, split, codec, tuple(map(len, parts)),
            crc32(payload), priority=priority,
        )  # fmt: skip
        self.sequence = Sequence(request, memoryview(payload), self.events.append)

    @property
    def end(self) -> Finished | CleaveError | None:
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
        self, runner: ModelRunner, *, num_slots: int = 8, chunk_tokens: int = 64, max_tokens: int = 0
    ) -> None:
        self.runner = runner
        self.scheduler = Scheduler(num_slots, max_tokens, chunk_tokens)
        self.batch = RunningBatch(runner, self.scheduler, Unobserved(), self._deliver)

    def submit(self, *asked: Asked) -> None:
        sequences = [one.sequence for one in asked]
        for one, error in zip(asked, self.runner.prepare(sequences), strict=True):
            if error is None:
                self.batch.add(one.sequence)
            elif isinstance(error, CleaveError):
                one.events.append(error)
            else:
                raise error

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


def run_alone(runner: ModelRunner, asked: Asked) -> Asked:
    """The same question in a batch of its own."""
    driven = Driven(runner, num_slots=1)
    driven.submit(asked)
    driven.finish()
    return asked


def run_together(runner: ModelRunner, asked: Values[Asked], **settings: Any) -> None:
    driven = Driven(runner, **settings)
    driven.submit(*asked)
    driven.finish()
