"""The head in onnxruntime against the same stages in torch, at every split point, of chains of every kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_node import head as head_module
from edge_node.head import Array, Head
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned
from partitioner.samples import fitted, made_samples
from splitmodel.tensors import to_numpy
from tests.kit.pictures import textured
from tests.kit.shapes import partitioned
from tests.kit.zoo_bundles import partitioned as zoo
from wire.chain_entries import Chain
from wire.errors import Corrupt, ModelFailed
from wire.manifest import Manifest, load_manifest


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle / "manifest.json")


def prepared(manifest: Manifest, folder: Path) -> list[Array]:
    return preprocess(manifest.chains[0].preprocessing, textured(50, 50), folder)


def require_equal_at_every_split_point(made: Partitioned, chain: Chain) -> set[int]:
    """How many tiles there were; the features of two inputs must differ."""
    encoder, head = made.encoders[chain.chain_id], Head(made.folder, chain)
    counts: set[int] = set()
    ends: list[Array] = []
    for media in made_samples(made.adapter, chain.modality, 4, seed=40)[1:]:
        media = fitted(media, encoder.size)
        tensors = preprocess(chain.preprocessing, media, made.folder)
        tiles = made.adapter.boundary_input(encoder, media)
        counts.add(len(tiles))
        for point in chain.split_points:
            got = head.run(tensors, point.index)
            specs = chain.boundary(point.index, len(tiles))
            assert [(array.shape, array.dtype) for array in got] == [(s.shape, s.dtype.numpy) for s in specs]
            for array, *theirs in zip(got, *tiles, strict=True):
                expected = np.stack([to_numpy(tensor) for tensor in theirs])
                ours = array if chain.input_shape.is_tiled else array[None]
                np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=1e-4)
            if point.index < encoder.chain.num_stages:
                tiles = [encoder.chain.run(tile, point.index, point.index + 1) for tile in tiles]
        ends.append(got[0][0])
    assert not np.allclose(ends[0], ends[1], atol=1e-2)
    return counts


def test_features_of_pictures_equal_those_of_the_torch_chain() -> None:
    made = partitioned("clip, 2 layers")
    assert require_equal_at_every_split_point(made, made.manifest.chains[0]) == {1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "inputs"), [("clip", ["input_ids", "attention_mask"]), ("siglip", ["input_ids"])]
)
def test_features_of_texts_equal_those_of_the_torch_chain(name: str, inputs: list[str]) -> None:
    made = zoo(name)
    chain = made.manifest.chain("text")
    assert [tensor.name for tensor in chain.split_points[0].tensors] == inputs
    require_equal_at_every_split_point(made, chain)


@pytest.mark.slow
def test_features_of_tiles_equal_those_of_the_torch_chain_tile_by_tile() -> None:
    made = zoo("smolvlm")
    chain = made.manifest.chain("image")
    assert chain.input_shape.is_tiled
    assert max(require_equal_at_every_split_point(made, chain)) > 1


@pytest.mark.slow
def test_features_at_every_listed_size_equal_those_of_the_torch_chain() -> None:
    made = zoo("qwen2_5_vl")
    chains = made.manifest.of("image")
    assert [(c.input_shape.width, c.input_shape.height) for c in chains] == [(96, 64), (64, 64)]
    for chain in chains:
        require_equal_at_every_split_point(made, chain)


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
    tensors = prepared(manifest, tiny_bundle)
    head.run(tensors, 0)
    assert made == []
    head.load(2)
    head.run(tensors, 2)
    head.run(tensors, 3)
    head.run(tensors, 1)
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
        Head(tiny_bundle, manifest.chains[0]).run([np.zeros((1, 3, 5, 5), np.float32)], 1)
    assert "\n" not in str(raised.value)
