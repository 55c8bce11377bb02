"""Compiled steps and half precision: the same answers, or a clear refusal before anybody waits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from cleave.assets import assets_folder
from cloud_node.model.runner import Room
from cloud_node.model.serving import serve
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.loading import find_device, find_dtype, load
from tests.kit.generations import Asked, run_alone, run_together
from wire.errors import BadInput

PICTURE = Image.new("RGB", (48, 48), (200, 30, 90))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_steps_give_the_tokens_of_plain_ones(tiny_checkpoint: Path, tiny_bundle: Path) -> None:
    _, plain = serve(load(str(tiny_checkpoint)), tiny_bundle)
    compiled_room = Room(num_slots=4, compiled=True)
    if shutil.which("g++") is None:
        with pytest.raises(BadInput, match="leave out --compile"):
            serve(load(str(tiny_checkpoint)), tiny_bundle, "", compiled_room)
        return
    _, compiled = serve(load(str(tiny_checkpoint)), tiny_bundle, "", compiled_room)
    prompts = ["what?", "which colour is it?", "how many of them are there in the picture?"]
    asked = [Asked(compiled, PICTURE, prompt, max_new_tokens=12) for prompt in prompts]
    run_together(compiled, asked, num_slots=4)
    expected = [run_alone(plain, Asked(plain, PICTURE, prompt, max_new_tokens=12)) for prompt in prompts]
    assert [one.token_ids for one in asked] == [one.token_ids for one in expected]


@pytest.fixture(scope="module")
def default_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default") / "bundle"
    return partition(load(str(assets_folder() / "default")), folder, preprocess).folder


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_serves_every_split_point_and_answers_rightly(
    default_bundle: Path, dtype: str
) -> None:
    served, runner = serve(load(str(assets_folder() / "default"), find_dtype(dtype)), default_bundle)
    assert served.refused == {}
    assert runner.kv.cache.layers[0].keys.dtype == find_dtype(dtype)
    samples = json.loads((assets_folder() / "samples" / "samples.json").read_text())
    asked = [
        Asked(
            runner,
            Image.open(assets_folder() / "samples" / sample["image"]).convert("RGB"),
            sample["question"],
            split=index,
            max_new_tokens=48,
        )
        for index, sample in enumerate(samples)
    ]
    run_together(runner, asked)
    assert [one.text.strip() for one in asked] == [sample["answer"] for sample in samples]


def test_dtype_and_device_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadInput, match="float32, bfloat16, float16"):
        find_dtype("int4")
    with pytest.raises(BadInput, match="there is no device 'cuda:99'"):
        find_device("cuda:99")
    assert find_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
