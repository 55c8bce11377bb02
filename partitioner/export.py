"""A chain's stages as ONNX models: exported once as a whole, then cut at the chain's boundaries."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor, nn

from splitmodel.chain import Chain
from wire.errors import ModelFailed

# Device runtimes lag behind: the newest opset in which LayerNormalization and Gelu are one operator each.
OPSET = 20


def export_stages(chain: Chain, example: Sequence[Tensor]) -> Iterator[bytes]:
    """Serialised ONNX models of stages 0..n-1, static at batch 1; tensors are named as in the split points.

    A stage's outputs are the tensors of its later boundary that did not already cross the earlier one.
    """
    extractor = Extractor(_export_whole(chain, example))
    for before, after in zip(chain.split_points, chain.split_points[1:], strict=False):
        inputs = [spec.name for spec in before.tensors]
        outputs = [spec.name for spec in after.tensors if spec.name not in inputs]
        stage = extractor.extract_model(inputs, outputs)
        _require_self_contained(stage, after.label)
        yield stage.SerializeToString(deterministic=True)


def export_guard(chain: Chain, example: Sequence[Tensor]) -> bytes | None:
    """The chain's guard as a serialised ONNX model: from the tensors of split point 0 to one bool, `holds`."""
    if chain.guard is None:
        return None
    model = _export(
        chain.guard.module, [spec.name for spec in chain.split_points[0].tensors], ["holds"], example
    )
    return bytes(model.SerializeToString(deterministic=True))


def _export_whole(chain: Chain, example: Sequence[Tensor]) -> onnx.ModelProto:
    module, names = chain.with_all_boundaries()
    model = _export(module, [spec.name for spec in chain.split_points[0].tensors], names, example)
    _read_boundaries_by_name(model.graph, names)
    return model


def _export(
    module: nn.Module, inputs: Sequence[str], outputs: Sequence[str], example: Sequence[Tensor]
) -> onnx.ModelProto:
    examples = tuple(tensor.to("cpu") for tensor in example)
    with _quiet():
        program = torch.onnx.export(
            module.to("cpu"), examples, input_names=inputs, output_names=outputs, opset_version=OPSET, dynamo=True,
            optimize=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _read_boundaries_by_name(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """The optimizer lets nodes read past an operator that does nothing. Where such a one makes a boundary's tensor,
    they read that again, or a stage behind the boundary would need what does not cross it.
    """
    copies = {node.output[0]: node for node in graph.node if node.op_type == "Identity"}
    for name in names:
        if name not in copies:
            continue
        copied = copies[name].input[0]
        for node in graph.node:
            if node.output[0] != name:
                node.input[:] = [name if read == copied else read for read in node.input]
    _put_copies_first(graph)


def _put_copies_first(graph: onnx.GraphProto) -> None:
    """Every copy comes right behind what it copies, before whoever reads it; the other nodes keep their order."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    copies: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        if node.op_type == "Identity":
            copies[node.input[0]].append(node)
    del graph.node[:]

    def place_copies_of(names: Iterable[str]) -> None:
        for name in names:
            for copy in copies[name]:
                graph.node.append(copy)
                place_copies_of(copy.output)

    place_copies_of(value.name for value in (*graph.input, *graph.initializer))
    for node in nodes:
        if node.op_type != "Identity":
            graph.node.append(node)
            place_copies_of(node.output)


def _require_self_contained(stage: onnx.ModelProto, label: str) -> None:
    """Cutting must not have left a stage that reads values of another one."""
    known = {value.name for value in (*stage.graph.input, *stage.graph.initializer)} | {""}
    for node in stage.graph.node:
        missing = set(node.input) - known
        if missing:
            raise ModelFailed(f"the stage before {label} reads {sorted(missing)}, which no boundary carries")
        known.update(node.output)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of every optional package that is missing; none of it helps whoever runs this."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
