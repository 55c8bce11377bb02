"""A stage that loads and then fails: the same inputs, outputs and file size, and a first step that cannot be done."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

_NO_SHAPE = 7  # numbers; what comes is never so few


def break_stage(path: Path) -> None:
    """Replaces the file; a device tells a file by its size, and looks at its hash only when it fetches it."""
    stage = onnx.load(path, load_external_data=False)
    first, outputs = stage.graph.input[0], list(stage.graph.output)
    nodes = [helper.make_node("Reshape", [first.name, "no_shape"], ["impossible"])]
    nodes += [helper.make_node("Identity", ["impossible"], [output.name]) for output in outputs]
    shape = helper.make_tensor("no_shape", TensorProto.INT64, [1], [_NO_SHAPE])
    unshaped = [
        helper.make_tensor_value_info(one.name, one.type.tensor_type.elem_type, None) for one in outputs
    ]
    graph = helper.make_graph(nodes, "broken", list(stage.graph.input), unshaped, [shape])
    broken = helper.make_model(graph, opset_imports=stage.opset_import, ir_version=stage.ir_version)
    num_bytes = path.stat().st_size
    # The length of the padding is itself written in one to three bytes.
    for padding in range(num_bytes):
        broken.doc_string = " " * max(0, num_bytes - broken.ByteSize() - padding)
        if broken.ByteSize() == num_bytes:
            break
        broken.doc_string = ""
    path.write_bytes(broken.SerializeToString())
