"""A head of many stages takes the memory of its largest stage's work, and not of all of them together."""

from __future__ import annotations

import numpy as np
import onnxruntime
import psutil
from onnx import TensorProto, helper

from edge_node.head import session_options

_NUM_STAGES = 8
_WORK_BYTES = 32 << 20


def stage() -> bytes:
    """[1, 1024] to the same, by way of [8192, 1024] float32."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1024])
    rows = helper.make_tensor("rows", TensorProto.INT64, [2], [8192, 1024])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("Expand", ["x", "rows"], ["wide"]),
        helper.make_node("ReduceMean", ["wide", "axes"], ["y"], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "stage", [value], [result], [rows, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_stages_work_in_one_memory() -> None:
    sessions = [
        onnxruntime.InferenceSession(stage(), session_options(1), providers=["CPUExecutionProvider"])
        for _ in range(_NUM_STAGES)
    ]
    before = psutil.Process().memory_info().rss
    values = np.ones((1, 1024), np.float32)
    for session in sessions:
        [values] = session.run(None, {"x": values})
    grown = psutil.Process().memory_info().rss - before
    assert np.all(values == 1)
    assert grown < 3 * _WORK_BYTES
