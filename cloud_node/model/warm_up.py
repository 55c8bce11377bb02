"""Compiling: a few questions about the probe's picture are answered before the cloud listens, so that no user waits."""

from __future__ import annotations

import logging
import time

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Sequence
from cloud_node.asked.settings import Settings
from cloud_node.model.prompt import ModelPrompt
from cloud_node.model.runner import ModelRunner
from splitmodel.media import size_of
from splitmodel.probe import ProbeData
from wire.codecs import encode, parse_codec
from wire.errors import BadInput
from wire.manifest import Manifest

_log = logging.getLogger(__name__)

# One row is compiled by itself, and two stand for any number: each length and batch from there on is a variable.
_BATCHES = (1, 2, 3)
_STEPS = 3


def compile_steps(runner: ModelRunner, manifest: Manifest, probe: ProbeData) -> None:
    """Compiles the decoder's steps and runs what makes the compiler do its work; raises BadInput where it cannot."""
    started = time.monotonic()
    runner.decoder.compile()
    try:
        prompts = [
            _read(runner, manifest, probe, row) for row in range(min(max(_BATCHES), runner.kv.num_slots))
        ]
        for batch in _BATCHES:
            for _ in range(_STEPS):
                runner.step(prompts[:batch])
    except Exception as error:  # the compiler's errors have no common class
        raise BadInput(
            f"the decoder's steps do not compile here ({type(error).__name__}: {' '.join(str(error).split())[:300]}); "
            "leave out --compile"
        ) from error
    _log.info("compiled the decoder's steps in %.1f s", time.monotonic() - started)


def _read(runner: ModelRunner, manifest: Manifest, probe: ProbeData, row: int) -> ModelPrompt:
    """A question about the probe's first input, read into a row."""
    item = manifest.probe.items[0]
    chain = manifest.chain(item.modality, item.shape_id)
    last = len(chain.split_points) - 1
    arrays = probe.features(0, last)
    num_tiles = len(arrays[0]) if chain.input_shape.is_tiled else 0
    parts = encode(parse_codec("raw"), arrays, chain.boundary(last, num_tiles))
    media = probe.media(0, item.modality)
    given = RequestInput(
        modality=item.modality,
        shape_id=item.shape_id,
        split_point=last,
        codec="raw",
        size=size_of(media, runner.preparer.adapter.processing.rate_hz),
        payload_sizes=tuple(map(len, parts)),
        crc32=0,
        num_tiles=num_tiles,
    )
    settings = Settings(max_new_tokens=len(_BATCHES) * _STEPS + 1)
    request = Request("warm-up", item.prompt, settings, 60.0, (given,))
    sequence = Sequence(request, (memoryview(b"".join(parts)),), lambda event: None)
    (error,) = runner.prepare([sequence])
    if isinstance(error, Exception):
        raise error
    made = sequence.prompt
    assert isinstance(made, ModelPrompt)
    runner.read(made, row, runner.begin(made, row), made.num_tokens)
    return made
