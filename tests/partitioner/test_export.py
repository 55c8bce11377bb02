"""Stages as ONNX models: run by the device's own head, they give torch's features at every split point."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edge_node.head import Head, session_options
from edge_node.preprocess import preprocess
from partitioner.export import export_stages
from partitioner.pictures import made_pictures
from splitmodel.tensors import to_numpy
from tests.kit.shapes import SHAPES, partitioned
from tests.splitmodel.encoders import Accumulating, Skip, TwoInputs, example, make_chain
from tests.splitmodel.families import make_family


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_onnx_stages_are_close_to_torch_at_every_split_point(shape: str) -> None:
    made = partitioned(shape)
    [listed] = made.manifest.chains
    chain = made.encoders[listed.chain_id].chain
    head = Head(made.folder, listed, num_threads=1)
    for picture in made_pictures(2, seed=300):
        pixels = preprocess(listed.preprocessing, picture, made.folder)
        for point in chain.split_points:
            reference = chain.run([torch.from_numpy(array) for array in pixels], 0, point.index)
            features = head.run(pixels, point.index)
            assert [array.shape for array in features] == [spec.shape for spec in point.tensors]
            for array, tensor in zip(features, reference, strict=True):
                scale = float(tensor.abs().max())
                assert np.abs(array - to_numpy(tensor)).max() <= 2e-5 * scale, point.label


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_5_vl", "vipllava"])
def test_stages_read_nothing_but_what_crosses_in_other_families_too(family: str) -> None:
    """One cuts attention open behind an operator that does nothing, which the exporter leaves out."""
    adapter, tensors = make_family(family)
    adapter.model.requires_grad_(False)
    chain = adapter.trace_encoder("image", made_pictures(2)[1]).chain
    pixels = tensors["pixel_values"]
    values = {chain.split_points[0].tensors[0].name: pixels.numpy()}
    for index, stage in enumerate(export_stages(chain, [pixels])):
        session = onnxruntime.InferenceSession(stage, session_options(1))
        names = [output.name for output in session.get_outputs()]
        made = session.run(names, {value.name: values[value.name] for value in session.get_inputs()})
        values.update(zip(names, made, strict=True))
        reference = chain.run([pixels], 0, index + 1)
        for spec, tensor in zip(chain.split_points[index + 1].tensors, reference, strict=True):
            assert np.abs(values[spec.name] - to_numpy(tensor)).max() <= 2e-5 * float(tensor.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_stages_hold_each_weight_once(shape: str) -> None:
    """A device that may use any split point stores the encoder once."""
    made = partitioned(shape)
    stored = sum(path.stat().st_size for path in (made.folder / "stages").rglob("*.onnx"))
    model = made.adapter.model.base_model
    weights = [*model.vision_tower.parameters(), *model.multi_modal_projector.parameters()]
    num_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    assert stored < 1.1 * num_bytes + 8192 * len(made.manifest.chains[0].stages)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [Accumulating(2), Skip(), TwoInputs()], ids=lambda e: type(e).__name__)
def test_stages_carry_several_tensors_by_name(encoder: torch.nn.Module) -> None:
    examples = [example(seed) for seed in range(2 if isinstance(encoder, TwoInputs) else 1)]
    chain = make_chain(encoder, examples)
    for index, stage in enumerate(export_stages(chain, examples)):
        graph = onnx.load_from_string(stage).graph
        before, after = ([s.name for s in chain.split_points[i].tensors] for i in (index, index + 1))
        assert [value.name for value in graph.input] == before
        assert [value.name for value in graph.output] == [name for name in after if name not in before]


@pytest.mark.slow
def test_exporting_twice_gives_the_same_bytes_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    chain = make_chain(Skip())
    assert list(export_stages(chain, [example()])) == list(export_stages(chain, [example()]))
    assert capfd.readouterr() == ("", "")
