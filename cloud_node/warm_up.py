"""Compiling: a few questions about the probe's picture are answered before the cloud listens, so that no user waits."""

from __future__ import annotations

import logging
import time

from cloud_node.prompt import ModelPrompt
from cloud_node.request import Request, Settings
from cloud_node.runner import ModelRunner
from cloud_node.sequence import Sequence
from splitmodel.probe import ProbeData
from wire.codecs import encode, parse_codec
from wire.errors import BadInput

_log = logging.getLogger(__name__)

# One row is compiled by itself, and two stand for any number: each length and batch from there on is a variable.
_BATCHES = (1, 2, 3)
_STEPS = 3


def compile_steps(runner: ModelRunner, probe: ProbeData, prompt: str) -> None:
    """Compiles the decoder's steps and runs what makes the compiler do its work; raises BadInput where it cannot."""
    started = time.monotonic()
    runner.decoder.compile()
    try:
        prompts = [
            _read(runner, probe, prompt, row) for row in range(min(max(_BATCHES), runner.kv.num_slots))
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


def _read(runner: ModelRunner, probe: ProbeData, prompt: str, row: int) -> ModelPrompt:
    """A question about the probe's first picture, read into a row."""
    preparer = runner.preparer
    last = len(preparer.boundaries) - 1
    parts = encode(parse_codec("raw"), probe.features(0, last), preparer.boundaries[last])
    payload = b"".join(parts)
    settings = Settings(max_new_tokens=len(_BATCHES) * _STEPS + 1)
    request = Request(
        "warm-up", prompt, settings, 60.0, *probe.size(0), last, "raw", tuple(map(len, parts)), 0
    )
    sequence = Sequence(request, memoryview(payload), lambda event: None)
    (error,) = runner.prepare([sequence])
    if error is not None:
        raise error
    made = sequence.prompt
    assert isinstance(made, ModelPrompt)
    runner.read(made, row, runner.begin(made, row), made.num_tokens)
    return made
