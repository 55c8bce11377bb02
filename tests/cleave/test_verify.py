"""Verification passes on honest halves of every shape, and fails on every kind of dishonest ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from cleave.halves import Halves, make_heads
from cleave.verifying import (
    PROMPTS,
    Question,
    SplitResult,
    Verification,
    verify_chain,
    verify_halves,
)
from cloud_node.model.serving import serve
from partitioner.pictures import constant_picture, made_pictures
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoded, Encoder
from splitmodel.loading import Checkpoint, load
from splitmodel.media import MediaInput
from tests.kit.shapes import SHAPES, checkpoint, partitioned
from wire.errors import Corrupt, IncompatibleBundle, ModelFailed
from wire.manifest import Chain

_SHAPE, _DEEPER = "clip, 2 layers", "clip, 3 layers, cropped"
_NUM_TOKENS = 4
_QUESTIONS = [
    Question(picture, PROMPTS[i % len(PROMPTS)])
    for i, picture in enumerate([constant_picture(), *made_pictures(4, seed=400)[1:]])
]


def no_report(step: str, done: int, total: int) -> None:
    """Tells nobody."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(partitioned(_SHAPE).folder, tmp_path / "bundle"))


def halves_of(bundle: Path, shape: str = _SHAPE) -> Halves:
    """The shared model with the head of the bundle in that folder."""
    made = partitioned(shape)
    heads = make_heads(bundle, made.manifest, 1)
    return Halves(made.adapter, made.encoders, made.manifest, heads, bundle)


def chain_of(halves: Halves) -> Chain:
    """The only one."""
    [chain] = halves.manifest.chains
    return chain


def with_encoder(halves: Halves, encoder: Encoder) -> Halves:
    return replace(halves, encoders={chain_of(halves).chain_id: encoder})


def failed_split_points(halves: Halves) -> list[int]:
    splits = tuple(verify_chain(halves, chain_of(halves), _QUESTIONS, _NUM_TOKENS))
    failed = [split.split_point for split in splits if not split.is_ok]
    assert Verification(splits).is_ok == (not failed)
    return failed


def stage_path(bundle: Path, index: int) -> Path:
    return bundle / "stages" / "image" / f"{index:03}.onnx"


def turn_a_weight(path: Path) -> None:
    """The largest of a stage."""
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = (-numpy_helper.to_array(weight)).tobytes()
    onnx.save(model, path)


def matrices(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]


def own_copy() -> Checkpoint:
    """The shared checkpoint, loaded again, so that its weights may be changed."""
    return load(str(checkpoint(_SHAPE).path))


def index_of(label: str) -> int:
    points = partitioned(_SHAPE).manifest.chains[0].split_points
    return next(point.index for point in points if point.label.endswith(label))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_head_and_tail_give_the_whole_models_tokens(shape: str) -> None:
    """At every split point, on eight pictures that were not traced, the first of them constant."""
    made = partitioned(shape)
    seen: list[tuple[str, int, int]] = []
    result = verify_halves(Halves.of(made, 1), 8, _NUM_TOKENS, lambda *step: seen.append(step))
    num_points = len(made.manifest.chains[0].split_points)
    assert result.is_ok
    assert [split.num_equal + split.num_ties for split in result.splits] == [8] * num_points
    assert result.num_ties <= 1
    assert max(split.max_logit_error for split in result.splits) < 1e-4
    assert seen == [("verify", done, num_points) for done in range(1, num_points + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_features_decide_the_answer_in_every_shape(shape: str) -> None:
    """The precondition of the test above, in numbers: of four pictures, at least two answers change."""
    halves = halves_of(partitioned(shape).folder, shape)
    chain = chain_of(halves)
    ends = [halves.encoded(chain, question.media, 0) for question in _QUESTIONS]
    zeroed, others = 0, 0
    for index, question in enumerate(_QUESTIONS):
        size = ends[index].size
        nothing = [[torch.zeros_like(tensor) for tensor in tile] for tile in ends[index].tiles]
        own, without, swapped = (
            halves.split([Encoded(ends[index].encoder, tiles, size)], question.prompt, _NUM_TOKENS).tokens
            for tiles in (ends[index].tiles, nothing, ends[index - 1].tiles)
        )
        whole = halves.whole([MediaInput("image", question.media)], question.prompt, _NUM_TOKENS)
        assert own == whole.tokens
        zeroed += own != without
        others += own != swapped
    assert min(zeroed, others) >= 2


@pytest.mark.slow
def test_tampered_stage_fails_from_its_split_point_on(bundle: Path) -> None:
    tampered = 3
    turn_a_weight(stage_path(bundle, tampered))
    num_points = len(partitioned(_SHAPE).manifest.chains[0].split_points)
    assert failed_split_points(halves_of(bundle)) == list(range(tampered + 1, num_points))


@pytest.mark.slow
def test_stages_that_change_places_fail_from_the_first_on(tmp_path: Path) -> None:
    """Two layers' attention: the same operators, so that only what they compute tells them apart."""
    made = partitioned(_DEEPER)
    bundle = Path(shutil.copytree(made.folder, tmp_path / "bundle"))
    labels = [point.label for point in made.manifest.chains[0].split_points]
    first, second = (labels.index(f"model.vision_tower.encoder.layers.{i}:add") - 1 for i in (0, 1))
    one, other = (onnx.load(stage_path(bundle, index)) for index in (first, second))
    for left, right in zip(matrices(one), matrices(other), strict=True):
        left.raw_data, right.raw_data = right.raw_data, left.raw_data
    onnx.save(one, stage_path(bundle, first))
    onnx.save(other, stage_path(bundle, second))
    assert failed_split_points(halves_of(bundle, _DEEPER)) == list(range(first + 1, len(labels)))


@pytest.mark.slow
def test_stage_files_that_change_places_do_not_run(bundle: Path) -> None:
    one, other = stage_path(bundle, 1), stage_path(bundle, 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(ModelFailed, match="stage 1 failed on this device"):
        failed_split_points(halves_of(bundle))


@pytest.mark.slow
def test_tail_with_a_perturbed_weight_fails_where_the_weight_is_in_the_tail() -> None:
    perturbed = own_copy()
    with torch.no_grad():
        perturbed.model.base_model.multi_modal_projector.linear_1.weight.neg_()
    encoder = adapter_for(perturbed).trace_encoder("image", _QUESTIONS[1].media)
    halves = with_encoder(halves_of(partitioned(_SHAPE).folder), encoder)
    assert failed_split_points(halves) == list(range(index_of("linear_1")))


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "what"), [(0.0, "zeroed features"), (1.0, "another input's features")])
def test_model_whose_answer_ignores_the_picture_is_not_verified(bias: float, what: str) -> None:
    blind = own_copy()
    with torch.no_grad():
        last = blind.model.base_model.multi_modal_projector.linear_2
        last.weight.zero_()
        last.bias.fill_(bias)
    adapter = adapter_for(blind)
    encoder = adapter.trace_encoder("image", _QUESTIONS[1].media)
    halves = replace(with_encoder(halves_of(partitioned(_SHAPE).folder), encoder), adapter=adapter)
    with pytest.raises(ModelFailed, match=f"^{what} change no token of {len(_QUESTIONS)} answers"):
        failed_split_points(halves)


@pytest.mark.slow
def test_tail_that_loses_every_number_fails() -> None:
    halves = halves_of(partitioned(_SHAPE).folder)
    encoder = halves.encoders[chain_of(halves).chain_id]
    chain = encoder.chain

    class Lost:
        def __getattr__(self, name: str) -> Any:
            return getattr(chain, name)

        def run(self, tensors: list[torch.Tensor], start: int, stop: int | None = None) -> list[torch.Tensor]:
            scale = 1.0 if start == 0 else torch.nan
            return [tensor * scale for tensor in chain.run(tensors, start, stop)]

    lost = replace(encoder, chain=Lost())  # type: ignore[arg-type]
    assert failed_split_points(with_encoder(halves, lost)) == list(range(1, chain.num_stages + 1))


def _result(num_equal: int, num_ties: int, num_tokens: int) -> SplitResult:
    return SplitResult("image/32x32", 0, "input", 8, num_equal, num_ties, num_tokens, 0.0)


@pytest.mark.parametrize(
    ("splits", "is_ok"),
    [
        ([_result(8, 0, 64)], True),
        ([_result(7, 0, 64)], False),
        ([_result(7, 1, 64)], False),
        ([_result(7, 1, 10_000)], True),
        ([_result(7, 1, 10_000), _result(7, 1, 9_999)], False),
        ([_result(6, 2, 20_000)], True),
        ([_result(5, 3, 29_999)], False),
    ],
)
def test_ties_are_at_most_one_in_ten_thousand_tokens(splits: list[SplitResult], is_ok: bool) -> None:
    verification = Verification(tuple(splits))
    assert verification.is_ok == is_ok
    assert json.loads(json.dumps(verification.to_dict()))["ok"] == is_ok


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda folder: flip_last_byte(stage_path(folder, 0)), Corrupt),
        (lambda folder: flip_last_byte(folder / "probe" / "probe.safetensors"), Corrupt),
        (lambda folder: stage_path(folder, 1).unlink(), IncompatibleBundle),
        (lambda folder: (folder / "manifest.json").unlink(), IncompatibleBundle),
    ],
)
def test_bundle_with_a_changed_file_is_refused(
    bundle: Path, change: Callable[[Path], None], error: type[Exception]
) -> None:
    change(bundle)
    with pytest.raises(error):
        serve(checkpoint(_SHAPE), bundle)


@pytest.mark.slow
def test_bundle_of_another_model_is_refused(bundle: Path) -> None:
    with pytest.raises(IncompatibleBundle, match="was made of other weights"):
        serve(checkpoint("siglip, 4 layers"), bundle)


@pytest.mark.slow
def test_cloud_serves_every_split_point_of_its_own_bundle(bundle: Path) -> None:
    served, runner = serve(checkpoint(_SHAPE), bundle)
    assert served.refused == {}
    [tail] = runner.preparer.tails.by_id.values()
    [tensors] = runner.preparer.adapter.boundary_input(tail.encoder, Image.new("RGB", (90, 70)))
    assert torch.isfinite(tail.encoder.chain.run(tensors, 0)[0]).all()
