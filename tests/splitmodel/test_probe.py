"""The probe: what is written is read, it holds every split point, and another file is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from partitioner.pictures import made_pictures
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoded
from splitmodel.loading import load
from splitmodel.media import MediaInput, size_of
from splitmodel.probe import ProbeData, ProbeInput, first_result, make_probe, read_probe, write_probe
from tests.kit.zoo_adapters import adapter_of, encoders_of, untraced
from wire.errors import IncompatibleBundle
from wire.modality import Modality

_PROMPTS = ("What is this?", "How many?")
_PICTURES = made_pictures(3)[1:]


@dataclass(frozen=True)
class Made:
    adapter: Adapter
    inputs: Sequence[ProbeInput]
    probe: ProbeData


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Path) -> Made:
    adapter = adapter_for(load(str(tiny_checkpoint)))
    encoder = adapter.trace_encoder("image", _PICTURES[0])
    inputs = [
        ProbeInput(encoder, picture, prompt) for picture, prompt in zip(_PICTURES, _PROMPTS, strict=True)
    ]
    return Made(adapter, inputs, make_probe(adapter, inputs))


def test_round_trip_keeps_every_tensor(made: Made, tmp_path: Path) -> None:
    write_probe(tmp_path / "probe.safetensors", made.probe)
    read = read_probe(tmp_path / "probe.safetensors")
    assert read.tensors.keys() == made.probe.tensors.keys()
    assert all(torch.equal(tensor, made.probe.tensors[name]) for name, tensor in read.tensors.items())


def test_probe_gives_back_its_pictures(made: Made) -> None:
    for index, picture in enumerate(_PICTURES):
        kept = made.probe.media(index, "image")
        assert size_of(kept) == size_of(picture)
        assert np.array_equal(np.asarray(kept), np.asarray(picture))


def test_features_of_every_split_point_lead_to_the_noted_logits(made: Made) -> None:
    for index, (one, prompt) in enumerate(zip(made.inputs, _PROMPTS, strict=True)):
        for split_point in range(one.encoder.chain.num_stages + 1):
            features = [torch.from_numpy(array) for array in made.probe.features(index, split_point)]
            ended = one.encoder.chain.run(features, split_point)
            encoded = Encoded(one.encoder, [ended], size_of(one.media))
            assert torch.equal(first_result(made.adapter, encoded, prompt), made.probe.result(index))


def test_logits_are_those_of_the_whole_model(made: Made) -> None:
    for index, (one, prompt) in enumerate(zip(made.inputs, _PROMPTS, strict=True)):
        call = made.adapter.whole([MediaInput("image", one.media)], prompt)
        with torch.no_grad():
            whole = call.model(**call.inputs).logits[0, -1]
        assert torch.allclose(whole, made.probe.result(index), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "modality"), [("clip", "text"), ("clap", "audio"), ("internvl", "image")])
def test_every_kind_of_input_comes_back_with_what_it_led_to(
    name: str, modality: Modality, tmp_path: Path
) -> None:
    """Of several tiles, the first axis of every tensor is theirs."""
    adapter, [encoder] = adapter_of(name), encoders_of(name, modality)
    prompt = _PROMPTS[0] if adapter.processing.takes_prompt else ""
    media = untraced(name, encoder)
    write_probe(tmp_path / "probe", make_probe(adapter, [ProbeInput(encoder, one, prompt) for one in media]))
    probe = read_probe(tmp_path / "probe")
    for index, one in enumerate(media):
        kept = probe.media(index, modality)
        assert kept == one if isinstance(one, str) else np.array_equal(np.asarray(kept), np.asarray(one))
        for split_point in range(encoder.chain.num_stages + 1):
            features = [torch.from_numpy(array) for array in probe.features(index, split_point)]
            tiles = [features] if encoder.tile_axis is None else list(zip(*features, strict=True))
            ended = [encoder.chain.run(tile, split_point) for tile in tiles]
            encoded = Encoded(encoder, ended, size_of(one, adapter.processing.rate_hz))
            assert torch.equal(first_result(adapter, encoded, prompt), probe.result(index))
    assert not torch.equal(probe.result(0), probe.result(1)), "the model ignores its input"


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\xff" * 64])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "probe.safetensors").write_bytes(content)
    with pytest.raises(IncompatibleBundle, match="make the bundle again"):
        read_probe(tmp_path / "probe.safetensors")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleBundle, match="does not load"):
        read_probe(tmp_path / "nothing")


def test_tensors_of_something_else_are_refused_when_they_are_asked_for(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    probe = read_probe(tmp_path / "other.safetensors")
    asked = (lambda: probe.media(0, "image"), lambda: probe.features(0, 0), lambda: probe.result(0))
    for ask in asked:
        with pytest.raises(IncompatibleBundle, match="the probe holds no"):
            ask()
