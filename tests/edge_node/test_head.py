"""The head in onnxruntime against the same stages in torch, at every split point."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_node import head as head_module
from edge_node.head import Head
from edge_node.preprocess import preprocess
from splitmodel.adapters.generator import GeneratorWithEncoders
from splitmodel.loading import load
from splitmodel.tensors import to_numpy
from tests.kit.pictures import textured
from wire.errors import Corrupt, ModelFailed
from wire.manifest import Manifest, load_manifest


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle / "manifest.json")


def test_features_equal_those_of_the_torch_chain_at_every_split_point(
    tiny_checkpoint: Path, tiny_bundle: Path, manifest: Manifest
) -> None:
    adapter = GeneratorWithEncoders(load(str(tiny_checkpoint)))
    chain = adapter.trace_encoder(textured(60, 40)).chain
    head = Head(tiny_bundle, manifest.chains[0])
    for seed, size in enumerate([(64, 48), (30, 90), (48, 48)]):
        picture = textured(*size, seed=seed)
        values = adapter.input_tensors(picture)
        pixels = preprocess(manifest.preprocessing, picture)
        for split_point in range(chain.num_stages + 1):
            got = head.run(pixels, split_point)
            for ours, theirs in zip(got, values, strict=True):
                np.testing.assert_allclose(ours, to_numpy(theirs.cpu()), atol=1e-4, rtol=1e-4)
            if split_point < chain.num_stages:
                values = chain.run(values, split_point, split_point + 1)


def test_stage_is_loaded_once_and_only_when_needed(
    tiny_bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    session = head_module.onnxruntime.InferenceSession

    def counted(path: Path, *rest: object, **named: object) -> object:
        made.append(path.name)
        return session(path, *rest, **named)

    monkeypatch.setattr(head_module.onnxruntime, "InferenceSession", counted)
    head = Head(tiny_bundle, manifest.chains[0])
    pixels = preprocess(manifest.preprocessing, textured(50, 50))
    head.run(pixels, 0)
    assert made == []
    head.load(2)
    head.run(pixels, 2)
    head.run(pixels, 3)
    head.run(pixels, 1)
    assert made == ["000.onnx", "001.onnx", "002.onnx"]


def test_damaged_stage_is_one_clear_error(tmp_path: Path, tiny_bundle: Path, manifest: Manifest) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    stage = folder / manifest.chains[0].stages[0].path
    stage.write_bytes(bytes(stage.stat().st_size))
    with pytest.raises(Corrupt, match=r"000\.onnx") as raised:
        Head(folder, manifest.chains[0]).load(1)
    assert "\n" not in str(raised.value)


def test_pixels_of_another_shape_are_one_clear_error(tiny_bundle: Path, manifest: Manifest) -> None:
    with pytest.raises(ModelFailed, match="stage 0") as raised:
        Head(tiny_bundle, manifest.chains[0]).run(np.zeros((1, 3, 5, 5), np.float32), 1)
    assert "\n" not in str(raised.value)
