"""The probe: what is written is read, it holds every split point, and another file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from partitioner.pictures import made_pictures
from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.loading import load
from splitmodel.probe import ProbeData, first_logits, make_probe, read_probe, write_probe
from wire.errors import IncompatibleBundle

_PROMPTS = ("What is this?", "How many?")
Made = tuple[GeneratorWithEncoders, Encoder, ProbeData]


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Path) -> Made:
    adapter = GeneratorWithEncoders(load(str(tiny_checkpoint)))
    pictures = made_pictures(3)[1:]
    encoder = adapter.trace_encoder(pictures[0])
    return adapter, encoder, make_probe(adapter, encoder, pictures, _PROMPTS)


def test_round_trip_keeps_every_tensor(made: Made, tmp_path: Path) -> None:
    write_probe(tmp_path / "probe.safetensors", made[2])
    read = read_probe(tmp_path / "probe.safetensors")
    assert read.tensors.keys() == made[2].tensors.keys()
    assert all(torch.equal(tensor, made[2].tensors[name]) for name, tensor in read.tensors.items())


def test_probe_gives_back_its_pictures(made: Made) -> None:
    pictures = made_pictures(3)[1:]
    assert np.array_equal(np.array(made[2].example()), np.array(pictures[0]))
    assert [made[2].size(index) for index in range(2)] == [picture.size for picture in pictures]


def test_features_of_every_split_point_lead_to_the_noted_logits(made: Made) -> None:
    adapter, encoder, probe = made
    for index, prompt in enumerate(_PROMPTS):
        width, height = probe.size(index)
        for split_point in range(encoder.chain.num_stages + 1):
            features = [torch.from_numpy(array) for array in probe.features(index, split_point)]
            ended = encoder.chain.run(features, split_point)
            logits = first_logits(adapter, encoder, ended, prompt, width, height)
            assert torch.equal(logits, probe.logits(index))


def test_logits_are_those_of_the_whole_model(made: Made) -> None:
    adapter, _, probe = made
    inputs = adapter.whole_inputs(_PROMPTS[0], probe.example())
    with torch.no_grad():
        whole = adapter.model(**inputs).logits[0, -1]
    assert torch.allclose(whole, probe.logits(0), atol=1e-5)


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
    for ask in (probe.example, lambda: probe.size(0), lambda: probe.features(0, 0), lambda: probe.logits(0)):
        with pytest.raises(IncompatibleBundle, match="the probe holds no"):
            ask()
