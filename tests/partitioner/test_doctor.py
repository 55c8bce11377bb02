"""What the doctor says from a config alone is what the model with its weights has, and what is in the way is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch import nn

from partitioner.by_modules import module_costs
from partitioner.doctor import diagnose
from partitioner.sizing import chain_costs
from splitmodel.adapters.find import adapter_for
from splitmodel.loading import load
from tests.kit.full_size_configs import FULL_SIZE
from tests.kit.pictures import textured
from tests.kit.shapes import partitioned
from wire.errors import BadInput, UnknownModel

_DEFAULT = Path(__file__).parents[2] / "assets" / "default"
_SIZE = "siglip, 4 layers"


def config_only(folder: Path, source: Path = _DEFAULT, **settings: Any) -> str:
    """A folder with what a config says, some of it changed, and the settings of the processor."""
    folder.mkdir(exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    for file in source.glob("*processor_config.json"):
        shutil.copy(file, folder)
    return str(folder)


def test_of_the_default_model_it_says_what_its_real_chain_has(tmp_path: Path) -> None:
    [predicted] = diagnose(config_only(tmp_path)).encoders
    adapter = adapter_for(load(str(_DEFAULT)))
    encoder = adapter.trace_encoder("image", textured(100, 80))
    assert list(predicted.points) == chain_costs(encoder.chain)
    raw = [point.feature_bytes["raw"] for point in predicted.points]
    assert raw == [point.num_bytes for point in encoder.chain.split_points]
    assert predicted.is_traced


def test_of_a_bundle_it_says_what_its_files_hold(tmp_path: Path) -> None:
    made = partitioned(_SIZE)
    [predicted] = diagnose(config_only(tmp_path, made.adapter.checkpoint.path)).encoders
    [chain] = made.manifest.chains
    assert [p.label for p in predicted.points] == [p.label for p in chain.split_points]
    assert [p.feature_bytes["raw"] for p in predicted.points] == [p.raw_bytes for p in chain.split_points]
    held = 0
    for stage, point in zip(chain.stages, predicted.points[1:], strict=True):
        graph = onnx.load(made.folder / stage.path).graph
        held += sum(len(tensor.raw_data) for tensor in graph.initializer)
        assert point.head_bytes == pytest.approx(held, rel=0.02, abs=512)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoders"),
    [
        ("SmolVLM-256M", {"image": 93_000_000}),
        ("LLaVA-1.5-7B", {"image": 312_000_000}),
        ("Whisper-large-v3", {"audio": 637_000_000}),
        ("CLIP ViT-L/14", {"image": 304_000_000, "text": 124_000_000}),
        ("Qwen2.5-VL-3B", {"image": 669_000_000}),
    ],
)
def test_a_full_size_model_is_traced_from_its_config(
    name: str, encoders: dict[str, int], tmp_path: Path
) -> None:
    found = diagnose(str(FULL_SIZE[name].save(tmp_path, with_processor=False)))
    assert found.is_splittable, found.problems
    assert {one.modality for one in found.encoders} == set(encoders)
    for one in found.encoders:
        assert one.is_traced
        assert one.num_parameters == pytest.approx(encoders[one.modality], rel=0.02)
        assert len(one.points) > 20
    assert any("from config.json" in note for note in found.notes)
    assert found.num_parameters == pytest.approx(FULL_SIZE[name].num_parameters, rel=0.01)


@pytest.mark.slow
def test_the_processor_decides_the_input_shape(tmp_path: Path) -> None:
    [own] = diagnose(str(FULL_SIZE["SmolVLM-256M"].save(tmp_path))).encoders
    _, tiles, *tile = map(int, own.input_shape.split("x"))
    assert tile == [3, 512, 512]
    assert tiles * own.num_tiles == 13  # an overview and 4 x 3 tiles of 640 x 480
    raw = own.points[0].feature_bytes["raw"]
    assert raw == 13 * 3 * 512 * 512 * 4


def test_an_encoder_that_cannot_be_traced_is_estimated_from_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = diagnose(config_only(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise BadInput("the encoder cannot be traced: no reason")

    monkeypatch.setattr("partitioner.examining.trace_encoders", refuse)
    found = diagnose(config_only(tmp_path))
    [real], [estimated] = traced.encoders, found.encoders
    assert not estimated.is_traced
    assert any("estimated from the modules" in note for note in found.notes)
    assert len(estimated.points) == 2 + 6  # the layers of its tower, and both ends
    assert estimated.points[-1].feature_bytes == real.points[-1].feature_bytes
    assert estimated.num_parameters == pytest.approx(real.num_parameters, rel=0.01)


def test_an_encoder_of_no_module_has_no_boundary() -> None:
    assert module_costs(nn.Identity(), list, []) == ([], ())


@pytest.mark.parametrize(
    ("settings", "files", "problem"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, [], "quantised"),
        ({}, ["pytorch_model.bin"], "pickled"),
    ],
)
def test_weights_that_cannot_be_read_are_a_problem(
    settings: dict[str, Any], files: list[str], problem: str, tmp_path: Path
) -> None:
    folder = config_only(tmp_path, **settings)
    for file in files:
        (tmp_path / file).touch()
    found = diagnose(folder)
    assert not found.is_splittable
    assert any(problem in one for one in found.problems)
    assert found.encoders  # and its sizes are told all the same


def test_a_model_with_nothing_to_split_is_told_from_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    found = diagnose(str(tmp_path))
    assert not found.is_splittable
    assert found.shape.kind == "not supported"
    assert len(found.problems) == 1


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        diagnose(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "of tomorrow"}))
    with pytest.raises(BadInput):
        diagnose(str(tmp_path))
