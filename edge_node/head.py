"""The head: a bundle's ONNX stages, loaded once and run up to any split point."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from wire.errors import BadInput, Corrupt, ModelFailed
from wire.manifest import Chain
from wire.tensors import DType

Array = NDArray[Any]


class Head:
    """The stages of one chain. A stage's session is made when a request first needs it, and then kept."""

    def __init__(self, folder: Path, chain: Chain, num_threads: int = 0) -> None:
        self._folder = folder
        self._chain = chain
        self._options = session_options(num_threads)
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        self._lock = threading.Lock()
        _require_exchangeable(chain)

    def run(self, tensors: Sequence[Array], split_point: int) -> list[Array]:
        """From the tensors at split point 0 to those at `split_point`, in the boundaries' order.

        Of a tiled chain, each tensor has the tiles along a first axis of its own, before and after.
        """
        if not self._chain.input_shape.is_tiled:
            return self._run(tensors, split_point)
        tiles = [self._run(list(tile), split_point) for tile in zip(*tensors, strict=True)]
        return [np.stack(column) for column in zip(*tiles, strict=True)]

    def _run(self, tensors: Sequence[Array], split_point: int) -> list[Array]:
        given = [entry.name for entry in self._chain.split_points[0].tensors]
        values = dict(zip(given, tensors, strict=True))
        for index in range(split_point):
            boundary = [entry.name for entry in self._chain.split_points[index].tensors]
            session = self._session(index)
            names = [output.name for output in session.get_outputs()]
            try:
                made = session.run(names, {name: values[name] for name in boundary})
            except Exception as error:  # onnxruntime's own classes derive from Exception alone
                raise ModelFailed(f"stage {index} failed on this device: {_one_line(error)}") from error
            values.update(zip(names, made, strict=True))
        return [values[entry.name] for entry in self._chain.split_points[split_point].tensors]

    def load(self, split_point: int) -> None:
        """Makes the sessions of all stages before a split point, so that the first request need not."""
        for index in range(split_point):
            self._session(index)

    def _session(self, index: int) -> onnxruntime.InferenceSession:
        with self._lock:
            if index not in self._sessions:
                path = self._folder / self._chain.stages[index].path
                self._sessions[index] = self._load(path)
            return self._sessions[index]

    def _load(self, path: Path) -> onnxruntime.InferenceSession:
        try:
            return onnxruntime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Corrupt(
                f"{path} does not load on this device ({_one_line(error)}); remove {self._folder} and ask again"
            ) from error


def session_options(num_threads: int = 0) -> onnxruntime.SessionOptions:
    """Options for many small sessions in one process. `num_threads` 0 lets the runtime choose."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    # All sessions work in one memory, as they run one after the other, and keep no pattern of a run: with a memory of
    # its own for every stage, a head takes up to ten times its weights.
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    # The sessions' thread pools would otherwise fight for the cores while they wait for work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


@functools.cache
def _register_arena() -> None:
    """The process's one memory for all sessions; it grows by what is asked for, and no further."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1}))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _require_exchangeable(chain: Chain) -> None:
    """numpy has no bfloat16, so no stage's tensors may be: raises BadInput."""
    boundaries: Sequence[Any] = [entry for point in chain.split_points for entry in point.tensors]
    if any(entry.spec().dtype is DType.BFLOAT16 for entry in boundaries):
        raise BadInput(
            "the bundle's stages exchange bfloat16, which this device cannot run; partition in float32"
        )
