"""Where a generator's features come from, found by what the model has; and how a result stands in for it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from splitmodel.adapters.sources import MethodSource, Source, TowerSource, find_source
from splitmodel.media import MediaInput
from tests.kit.zoo_adapters import adapter_of, encoders_of, untraced
from wire.modality import Modality

pytestmark = pytest.mark.slow


def source_of(name: str, modality: Modality) -> Source:
    source = find_source(adapter_of(name).model, modality)
    assert source is not None
    return source


def whole_inputs(name: str, modality: Modality) -> dict[str, Any]:
    """Those of the whole model, for an input and a prompt."""
    adapter = adapter_of(name)
    [media] = untraced(name, encoders_of(name, modality)[0], 1)
    return adapter.whole([MediaInput(modality, media)], "What is this?").inputs


def weights_and_names(model: nn.Module) -> dict[str, int]:
    return {name: id(module) for name, module in model.named_modules()}


@pytest.mark.parametrize(
    ("name", "modality", "kind"),
    [
        ("llava", "image", MethodSource),
        ("audioflamingo3", "audio", MethodSource),
        ("qwen2_audio", "audio", TowerSource),
        ("qwen2_audio", "image", type(None)),
        ("llava", "audio", type(None)),
        ("whisper", "audio", type(None)),
    ],
)
def test_method_goes_before_tower_and_a_model_may_have_neither(
    name: str, modality: Modality, kind: type
) -> None:
    assert type(find_source(adapter_of(name).model, modality)) is kind


@pytest.mark.parametrize("name", ["audioflamingo3", "qwen2_audio"])
def test_arguments_are_those_of_the_call_inside_the_whole_model(name: str) -> None:
    """And nothing is encoded to find them out."""
    source, whole, model = source_of(name, "audio"), whole_inputs(name, "audio"), adapter_of(name).model
    tower, ran = model.get_encoder(modality="audio"), list[str]()
    heard: list[dict[str, Any]] = []
    signature = inspect.signature(tower.forward)

    def note(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        heard.append(dict(signature.bind(*args, **kwargs).arguments))

    inside = tower.conv1.register_forward_pre_hook(lambda *_: ran.append("conv1"))
    given = source.arguments(whole)
    inside.remove()
    assert not ran
    around = tower.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        model(**whole)
        source.call(**given)
    around.remove()
    tensors = {key for key, value in heard[0].items() if isinstance(value, torch.Tensor)}
    assert "input_features" in tensors
    assert all(torch.equal(heard[0][key], heard[1][key]) for key in tensors)


@pytest.mark.parametrize("name", ["audioflamingo3", "qwen2_audio"])
def test_result_stands_in_on_a_twin_and_leaves_the_model_as_it_was(name: str) -> None:
    source, whole, model = source_of(name, "audio"), whole_inputs(name, "audio"), adapter_of(name).model
    before, given = weights_and_names(model), source.arguments(whole)
    with torch.no_grad():
        reference, output = model(**whole).logits, source.call(**given)
        twin = source.standing_in(model, output)
        without = {**whole, "input_features": torch.zeros_like(whole["input_features"])}
        assert torch.equal(twin(**without).logits, reference), "the encoder was called all the same"
        assert not torch.equal(model(**without).logits, reference), "the model ignores its features"
        assert torch.equal(model(**whole).logits, reference)
    assert weights_and_names(model) == before


def test_method_that_stands_in_has_the_signature_that_generate_looks_at() -> None:
    source, model = source_of("audioflamingo3", "audio"), adapter_of("audioflamingo3").model
    twin = source.standing_in(model, "anything")
    method = twin.base_model.get_audio_features
    assert method(1, two=2) == "anything"
    assert inspect.signature(method).parameters.keys() == source.parameters
