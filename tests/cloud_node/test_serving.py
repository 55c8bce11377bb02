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

from cloud_node.request import Request, Served, Settings
from cloud_node.runner import ModelRunner
from cloud_node.sequence import Event, Finished, FinishReason, Sequence, TextDelta
from cloud_node.serving import serve
from splitmodel.loading import Checkpoint, load
from tests.kit.checkpoints import tiny_llava
from tests.kit.clouds import cloud, settle
from tests.kit.talking import channel
from wire.codecs import encode, parse_codec
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
    assert len(served.chain.split_points) == runner.encoder.chain.num_stages + 1


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
    with pytest.raises(IncompatibleBundle, match="preprocesses pictures in another way"):
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
    assert served.refused.keys() == {4}

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
    last = len(served.chain.split_points) - 1
    assert served.refused.keys() == set(range(last))


class Ran:
    """One run of the real runner."""

    def __init__(self, runner: ModelRunner, **changes: object) -> None:
        self.events: list[Event] = []
        specs = runner.encoder.chain.split_points[0].tensors
        pixels = runner.adapter.input_tensors(Image.new("RGB", (48, 48), (200, 30, 90)))[0].numpy()
        array = np.full_like(pixels, changes.pop("fill")) if "fill" in changes else pixels
        payload = b"".join(encode(parse_codec("raw"), [array], specs))
        prompt = str(changes.pop("prompt", "what?"))
        settings = Settings(**{"max_new_tokens": 8, "temperature": 0.0, **changes})  # type: ignore[arg-type]
        request = Request("r", prompt, settings, 60.0, 48, 48, 0, "raw", (len(payload),), 0)
        self.sequence = Sequence(request, memoryview(payload), self.events.append)
        self.runner = runner

    def finish(self) -> Finished:
        return self.runner.run(self.sequence, self.events.append)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


def test_run_tells_its_text_token_by_token(whole: tuple[Served, ModelRunner]) -> None:
    ran = Ran(whole[1])
    finished = ran.finish()
    assert (finished.reason, finished.generated_tokens) == (FinishReason.LENGTH, 8)
    deltas = [event for event in ran.events if isinstance(event, TextDelta)]
    assert sum(delta.num_tokens for delta in deltas) == 8
    assert [delta.token_index for delta in deltas] == [
        sum(before.num_tokens for before in deltas[:i]) for i in range(len(deltas))
    ]
    times = finished.times
    assert all(value > 0 for value in (times.decode_payload_s, times.tail_s, times.prefill_s, times.decode_s))


def test_stopped_run_ends_at_the_next_token(whole: tuple[Served, ModelRunner]) -> None:
    ran = Ran(whole[1], max_new_tokens=200)
    ran.sequence.stop(Cancelled("no longer wanted"))
    assert ran.finish().generated_tokens == 1


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_features_that_are_not_finite_fail_instead_of_giving_an_answer(
    whole: tuple[Served, ModelRunner], fill: float
) -> None:
    ran = Ran(whole[1], fill=fill)
    with pytest.raises(ModelFailed, match="not finite"):
        ran.finish()
    assert ran.events == []


def test_prompt_longer_than_the_models_context_is_refused(whole: tuple[Served, ModelRunner]) -> None:
    with pytest.raises(TooLarge, match="512"):
        Ran(whole[1], prompt="é" * 600).finish()


def test_answer_ends_at_the_end_of_the_models_context(whole: tuple[Served, ModelRunner]) -> None:
    finished = Ran(whole[1], prompt="é" * 240, max_new_tokens=256, min_new_tokens=256).finish()
    assert finished.reason is FinishReason.LENGTH
    assert finished.prompt_tokens + finished.generated_tokens == 512


def test_prompt_with_the_placeholder_is_refused(whole: tuple[Served, ModelRunner]) -> None:
    with pytest.raises(BadInput, match="<image>"):
        Ran(whole[1], prompt="what is <image>?").finish()
