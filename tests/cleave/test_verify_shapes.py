"""Verification of every shape of model: of tiles, of decoders that take no prompt, of embeddings without tokens."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from cleave.halves import Halves, make_heads
from cleave.verifying import make_questions, verify_chain, verify_halves
from partitioner.pictures import constant_picture
from splitmodel.encoder import Encoded
from splitmodel.media import MediaInput, size_of
from tests.kit.zoo_adapters import adapter_of, encoders_of
from tests.kit.zoo_bundles import partitioned
from wire.errors import ModelFailed
from wire.manifest import Chain

NUM_TOKENS = 4


def no_report(step: str, done: int, total: int) -> None:
    """Tells nobody."""


def with_turned_weight(name: str, stage: int, folder: Path) -> Halves:
    """The zoo's model with a head whose stage has its largest weight turned round."""
    made = partitioned(name)
    bundle = Path(shutil.copytree(made.folder, folder / "bundle"))
    path = bundle / made.manifest.chains[0].stages[stage].path
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = (-numpy_helper.to_array(weight)).tobytes()
    onnx.save(model, path)
    return replace(Halves.of(made, 1), heads=make_heads(bundle, made.manifest, 1), folder=bundle)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["internvl", "vit_gpt2", "clip"])
def test_every_split_point_of_every_chain_gives_the_whole_models_answer(name: str) -> None:
    halves = Halves.of(partitioned(name), 1)
    chains = halves.manifest.chains
    seen: list[tuple[str, int, int]] = []
    result = verify_halves(halves, 4, NUM_TOKENS, lambda *step: seen.append(step))
    assert result.is_ok
    listed = [(chain.chain_id, point.index) for chain in chains for point in chain.split_points]
    assert [(split.chain, split.split_point) for split in result.splits] == listed
    assert max(split.max_logit_error for split in result.splits) < 1e-4
    assert seen[-1] == ("verify", len(listed), len(listed))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tampered"), [("internvl", 4), ("clip", 2)])
def test_tampered_stage_fails_from_its_split_point_on(name: str, tampered: int, tmp_path: Path) -> None:
    halves = with_turned_weight(name, tampered, tmp_path)
    chain = halves.manifest.chains[0]
    splits = verify_chain(halves, chain, make_questions(halves, chain, 4, seed=400), NUM_TOKENS)
    failed = [split.split_point for split in splits if not split.is_ok]
    assert failed == list(range(tampered + 1, len(chain.split_points)))


@pytest.mark.slow
def test_embeddings_that_are_the_same_for_every_input_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves.of(partitioned("clip"), 1)
    chain: Chain = halves.manifest.chains[0]
    grey = MediaInput("image", constant_picture())
    reference = halves.whole([grey], "", 0)

    def blind(self: Halves, encoded: list[Encoded], prompt: str, num_tokens: int) -> object:
        return reference

    monkeypatch.setattr(Halves, "split", blind)
    with pytest.raises(ModelFailed, match=r"^zeroed features change no token of 4 answers"):
        list(verify_chain(halves, chain, make_questions(halves, chain, 4, seed=400), NUM_TOKENS))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_asked"), [("llava_next", True), ("vit_gpt2", False)])
def test_questions_are_of_the_chains_own_size_and_ask_only_who_takes_a_prompt(
    name: str, is_asked: bool
) -> None:
    for encoder in encoders_of(name, "image"):
        chain: Any = SimpleNamespace(chain_id="image/any", modality="image")
        halves: Any = SimpleNamespace(adapter=adapter_of(name), encoders={chain.chain_id: encoder})
        questions = make_questions(halves, chain, 4, seed=9)
        sizes = {size_of(question.media) for question in questions}
        assert sizes == {encoder.size} if encoder.size is not None else len(sizes) > 1
        assert [bool(question.prompt) for question in questions] == [is_asked] * 4
