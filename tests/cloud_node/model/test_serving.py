"""From a checkpoint and a bundle to a served model, or a clear refusal; and what the real runner refuses to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cloud_node.asked.sequence import FinishReason, TextDelta
from cloud_node.asked.served import Served
from cloud_node.model.runner import ModelRunner
from cloud_node.model.serving import serve
from splitmodel.loading import Checkpoint, load
from tests.kit.checkpoints import tiny_llava
from tests.kit.clouds import cloud, settle
from tests.kit.generations import Asked, Driven, run_alone
from tests.kit.talking import channel
from wire.errors import BadInput, Cancelled, Corrupt, IncompatibleBundle, ModelFailed, TooLarge
from wire.manifest import Manifest, dump_manifest, load_manifest
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

pytestmark = pytest.mark.slow

STAGE = "stages/image/000.onnx"
PROBE = "probe/probe.safetensors"


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return load(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def whole(checkpoint: Checkpoint, tiny_bundle: Path) -> tuple[Served, ModelRunner]:
    return serve(checkpoint, tiny_bundle)


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to tamper with."""
    return shutil.copytree(tiny_bundle, tmp_path / "tampered")


def rewrite(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    """A manifest that lists the files as they are now."""
    manifest = load_manifest(folder / "manifest.json")
    files = [
        msgspec.structs.replace(
            entry,
            num_bytes=(folder / entry.path).stat().st_size,
            sha256=sha256((folder / entry.path).read_bytes()).hexdigest(),
        )
        for entry in manifest.files
    ]
    changed = change(msgspec.structs.replace(manifest, files=files))
    (folder / "manifest.json").write_bytes(dump_manifest(changed))


def change_probe(folder: Path, name: str) -> None:
    tensors = load_file(folder / PROBE)
    tensors[name] = tensors[name] + 1
    save_file(tensors, folder / PROBE)
    rewrite(folder, lambda manifest: manifest)


def test_sound_bundle_is_served_at_every_split_point(whole: tuple[Served, ModelRunner]) -> None:
    served, runner = whole
    assert served.refused == {}
    (chain,) = served.manifest.chains
    tail = runner.preparer.tails.by_id[chain.chain_id]
    assert len(chain.split_points) == tail.encoder.chain.num_stages + 1


@pytest.mark.parametrize("path", [STAGE, PROBE])
@pytest.mark.parametrize("is_shorter", [True, False])
def test_file_that_was_tampered_with_is_refused(
    checkpoint: Checkpoint, folder: Path, path: str, is_shorter: bool
) -> None:
    data = (folder / path).read_bytes()
    (folder / path).write_bytes(data[:-1] if is_shorter else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Corrupt, match=path):
        serve(checkpoint, folder)


def test_bundle_of_another_model_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    other = load(str(tiny_llava(tmp_path / "other", layers=2, seed=5)))
    with pytest.raises(IncompatibleBundle, match="made of other weights"):
        serve(other, tiny_bundle)


def test_bundle_of_other_preprocessing_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    other = load(str(tiny_llava(tmp_path / "other", layers=2, seed=2, crop=True)))
    with pytest.raises(IncompatibleBundle, match="in another way"):
        serve(other, tiny_bundle)


def test_bundle_that_is_cut_elsewhere_is_refused(checkpoint: Checkpoint, folder: Path) -> None:
    def relabel(manifest: Manifest) -> Manifest:
        (chain,) = manifest.chains
        points = list(chain.split_points)
        points[3] = msgspec.structs.replace(points[3], label="elsewhere")
        return msgspec.structs.replace(manifest, chains=[msgspec.structs.replace(chain, split_points=points)])

    rewrite(folder, relabel)
    with pytest.raises(IncompatibleBundle, match="first different at 3"):
        serve(checkpoint, folder)


def test_folder_without_a_bundle_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleBundle, match=r"no manifest\.json"):
        serve(checkpoint, tmp_path)


def test_tail_that_misses_the_probe_is_refused_and_described_with_the_reason(
    checkpoint: Checkpoint, folder: Path
) -> None:
    change_probe(folder, "features/1/4/0")
    served, runner = serve(checkpoint, folder)
    (reasons,) = served.refused.values()
    assert reasons.keys() == {4}

    async def described() -> pb.DescribeReply:
        async with cloud(served, folder, runner) as server, channel(server.address) as made:
            return await pb_grpc.InferenceStub(made).Describe(pb.DescribeRequest())

    points = settle(described()).models[0].chains[0].split_points
    assert [point.index for point in points if not point.served] == [4]
    assert "misses the probe" in points[4].reason


def test_other_weights_in_memory_miss_the_probe_wherever_the_tail_has_them(
    tiny_checkpoint: Path, tiny_bundle: Path
) -> None:
    changed = load(str(tiny_checkpoint))
    with torch.no_grad():
        changed.model.model.multi_modal_projector.linear_2.weight[0] += 1
    served, _ = serve(changed, tiny_bundle)
    (chain,) = served.manifest.chains
    last = len(chain.split_points) - 1
    assert served.refused[chain.chain_id].keys() == set(range(last))


PICTURE = Image.new("RGB", (48, 48), (200, 30, 90))


def test_deltas_tell_of_every_token_once(whole: tuple[Served, ModelRunner]) -> None:
    asked = run_alone(whole[1], Asked(whole[1], PICTURE))
    assert (asked.finished.reason, asked.finished.generated_tokens) == (FinishReason.LENGTH, 8)
    deltas = [event for event in asked.events if isinstance(event, TextDelta)]
    assert sum(delta.num_tokens for delta in deltas) == 8
    assert [delta.token_index for delta in deltas] == [
        sum(before.num_tokens for before in deltas[:i]) for i in range(len(deltas))
    ]
    times = asked.finished.times
    assert all(value > 0 for value in (times.decode_payload_s, times.tail_s, times.prefill_s, times.decode_s))


def test_stopped_sequence_ends_at_the_next_step(whole: tuple[Served, ModelRunner]) -> None:
    asked = Asked(whole[1], PICTURE, max_new_tokens=200)
    driven = Driven(whole[1])
    driven.submit(asked)
    driven.step(2)
    asked.sequence.stop(Cancelled("no longer wanted"))
    driven.step()
    assert isinstance(asked.end, Cancelled)
    assert not driven.batch.has_work


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_features_that_are_not_finite_fail_instead_of_giving_an_answer(
    whole: tuple[Served, ModelRunner], fill: float
) -> None:
    asked = run_alone(whole[1], Asked(whole[1], PICTURE, fill=fill))
    assert isinstance(asked.end, ModelFailed)
    assert "not finite" in str(asked.end)
    assert len(asked.events) == 1


def test_prompt_longer_than_the_models_context_is_refused(whole: tuple[Served, ModelRunner]) -> None:
    asked = run_alone(whole[1], Asked(whole[1], PICTURE, "é" * 600))
    assert isinstance(asked.end, TooLarge)
    assert "512" in str(asked.end)


def test_answer_ends_at_the_end_of_the_models_context(whole: tuple[Served, ModelRunner]) -> None:
    asked = run_alone(whole[1], Asked(whole[1], PICTURE, "é" * 240, max_new_tokens=256, min_new_tokens=256))
    assert asked.finished.reason is FinishReason.LENGTH
    assert asked.finished.prompt_tokens + asked.finished.generated_tokens == 512


def test_prompt_with_the_placeholder_is_refused(whole: tuple[Served, ModelRunner]) -> None:
    asked = run_alone(whole[1], Asked(whole[1], PICTURE, "what is <image>?"))
    assert isinstance(asked.end, BadInput)
    assert "<image>" in str(asked.end)
