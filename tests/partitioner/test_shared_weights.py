"""What several shapes' stages have in common is stored once, and they still give what they gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from partitioner.shared_weights import share_weights
from tests.kit.zoo_bundles import partitioned

_WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def model(own: np.ndarray, rows: int) -> bytes:
    """A product with a weight that all have, and a sum with one of its own."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "own"], ["z"])]
    graph = helper.make_graph(
        nodes, "stage",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 64])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [rows, 64])],
        [numpy_helper.from_array(_WEIGHT, "w"), numpy_helper.from_array(own, "own")],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()


def run(path: Path, rows: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.ones((rows, 64), np.float32)})[0])


def test_common_weights_move_to_one_file_and_results_stay(tmp_path: Path) -> None:
    paths = [tmp_path / f"{rows}.onnx" for rows in (8, 16)]
    for path, rows in zip(paths, (8, 16), strict=True):
        path.write_bytes(model(np.full((rows, 64), rows, np.float32), rows))
    before = [run(path, rows) for path, rows in zip(paths, (8, 16), strict=True)]
    assert share_weights(paths, tmp_path / "shared.bin")
    assert (tmp_path / "shared.bin").stat().st_size == _WEIGHT.nbytes
    assert all(path.stat().st_size < _WEIGHT.nbytes for path in paths)
    after = [run(path, rows) for path, rows in zip(paths, (8, 16), strict=True)]
    assert all(np.array_equal(left, right) for left, right in zip(before, after, strict=True))


def test_stages_with_nothing_in_common_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(data := model(np.ones((8, 64), np.float32), 8))
    assert not share_weights([path], tmp_path / "shared.bin")
    assert path.read_bytes() == data
    assert not (tmp_path / "shared.bin").exists()


@pytest.mark.slow
def test_bundle_of_several_sizes_holds_each_weight_once() -> None:
    made = partitioned("llava_next")
    chains = made.manifest.chains
    assert len(chains) == 2
    stored = sum(path.stat().st_size for path in (made.folder / "stages").rglob("*"))
    model = made.adapter.model.base_model
    weights = [*model.vision_tower.parameters(), *model.multi_modal_projector.parameters()]
    num_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    assert stored < 1.3 * num_bytes + 8192 * sum(len(chain.stages) for chain in chains)
    assert any(stage.weights for stage in chains[0].stages)
    assert onnx.load(made.folder / chains[0].stages[-1].path, load_external_data=False).graph.node
