"""Stages of encoders of all kinds as ONNX models: several inputs, integers, masks, waves; and the guard of one."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from edge_node.head import session_options
from partitioner.export import export_guard, export_stages
from splitmodel.chain import Chain
from splitmodel.tensors import to_numpy
from splitmodel.trace import trace
from tests.kit.zoo import EncoderCase, checkpoint_folder, encoder_case, load

TOLERANCE = 1e-5


def traced(name: str, modality: str) -> tuple[EncoderCase, Chain]:
    model, processor = load(checkpoint_folder(name))
    model.requires_grad_(False)
    case = encoder_case(name, model, processor, modality)
    return case, Chain(trace(case.run, list(case.one.values()), model), list(case.one))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("qwen3_vl", "image"),
        ("audioflamingo3", "audio"),
        ("moonshine", "audio"),
        ("clip", "text"),
        ("clap", "audio"),
    ],
)
def test_onnx_stages_are_close_to_torch_at_every_split_point(name: str, modality: str) -> None:
    case, chain = traced(name, modality)
    inputs = list(case.other.values())
    values = {key: to_numpy(tensor) for key, tensor in case.other.items()}
    for index, stage in enumerate(export_stages(chain, list(case.one.values()))):
        session = onnxruntime.InferenceSession(stage, session_options(1))
        names = [output.name for output in session.get_outputs()]
        made = session.run(names, {value.name: values[value.name] for value in session.get_inputs()})
        values.update(zip(names, made, strict=True))
        reference = chain.run(inputs, 0, index + 1)
        for spec, tensor in zip(chain.split_points[index + 1].tensors, reference, strict=True):
            array, expected = values[spec.name], to_numpy(tensor)
            assert array.dtype == expected.dtype
            assert np.abs(array.astype(np.float64) - expected).max() <= TOLERANCE * np.abs(expected).max(), (
                spec.name
            )


@pytest.mark.slow
def test_guard_is_exported_where_there_is_one() -> None:
    case, chain = traced("smolvlm", "image")
    exported = export_guard(chain, list(case.one.values()))
    assert exported is not None
    session = onnxruntime.InferenceSession(exported, session_options(1))
    pixels = case.other["pixel_values"]
    padded = torch.cat([pixels[:, :-1], torch.zeros_like(pixels[:, -1:])], dim=1)
    assert [bool(session.run(["holds"], {"pixel_values": to_numpy(x)})[0]) for x in (pixels, padded)] == [
        True,
        False,
    ]


@pytest.mark.slow
def test_no_guard_is_exported_where_there_is_none() -> None:
    case, chain = traced("clip", "image")
    assert export_guard(chain, list(case.one.values())) is None
