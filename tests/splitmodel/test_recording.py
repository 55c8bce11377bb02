"""Recorded prefills: continued in a batch by the engine's runner, they give the tokens of the whole model alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cloud_node.model.prompt import chunk_cuts
from cloud_node.model.runner import Room
from splitmodel.decoder import Decoder
from splitmodel.recording import Recorder
from tests.splitmodel.recordings import (
    ALL,
    FORWARD,
    REFUSED,
    SERVED,
    WINDOW,
    WINDOWED,
    call_of,
    engine_tokens,
    make_model,
    make_runner,
    whole_tokens,
    with_masks,
)
from wire.errors import BadInput

pytestmark = pytest.mark.slow
SEEDS = (1, 2, 3)


def state_of(model: Any) -> dict[str, Any]:
    """All that every module holds, its hooks and settings included; what is compared by value, as text."""
    state: dict[str, Any] = {"config": model.config.to_json_string(use_diff=False)}
    state["generation"] = model.generation_config.to_json_string(use_diff=False)
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, dict):
                state.update((f"{name}.{key}.{inner}", id(one)) for inner, one in value.items())
                state[f"{name}.{key}"] = list(value)
            else:
                state[f"{name}.{key}"] = value.tolist() if isinstance(value, Tensor) else value
    return state


def require_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    assert [key for key in before if before[key] is not after[key] and before[key] != after[key]] == []


@pytest.mark.parametrize("name", ALL)
def test_recording_leaves_nothing_on_the_model(name: str) -> None:
    model = make_model(name)
    calls = [call_of(name, model, seed) for seed in SEEDS]
    before, weights = state_of(model), {key: value.clone() for key, value in model.state_dict().items()}
    recorder = Recorder(model)
    for one in calls:
        if name in REFUSED:
            with pytest.raises(BadInput):
                recorder.prefill(one)
        else:
            recorder.prefill(one)
    Decoder(model)
    require_same_state(before, state_of(model))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("at_most", [1, 6, 1000])
@pytest.mark.parametrize("name", SERVED)
def test_tokens_in_a_batch_are_those_of_generate_alone(name: str, at_most: int) -> None:
    """Three prompts of different lengths, read in chunks, that join at different steps."""
    model = make_model(name)
    calls = [call_of(name, model, seed) for seed in SEEDS]
    expected = [whole_tokens(call) for call in calls]
    assert len({tuple(tokens) for tokens in expected}) == len(SEEDS), "the answers ignore their inputs"
    assert len({call.inputs["input_ids"].shape for call in calls}) > 1
    runner = make_runner(model)
    prefills = [runner.decoder.record(call) for call in calls]
    assert engine_tokens(runner, prefills, at_most=at_most) == expected


@pytest.mark.parametrize("name", FORWARD)
def test_plain_causal_mask_gives_other_tokens_where_a_picture_reads_forward(name: str) -> None:
    model = make_model(name)
    calls = [call_of(name, model, seed) for seed in SEEDS]
    runner = make_runner(model)
    prefills = [runner.decoder.record(call) for call in calls]
    causal = [with_masks(one, {kind: m.tril() for kind, m in one.masks.items()}) for one in prefills]
    assert engine_tokens(runner, causal) != [whole_tokens(call) for call in calls]


@pytest.mark.parametrize("name", FORWARD)
def test_span_that_reads_forward_is_not_cut(name: str) -> None:
    model = make_model(name)
    call = Decoder(model).record(call_of(name, model, 3))
    cuts = chunk_cuts(call.masks)
    assert cuts[-1] == call.num_tokens
    for kind, mask in call.masks.items():
        assert all(not mask[:cut, cut:].any() for cut in cuts), kind
    whole_prompt_reads_forward = name == "paligemma"
    assert (len(cuts) == 1) == whole_prompt_reads_forward


@pytest.mark.parametrize("name", WINDOWED)
def test_window_matters_and_is_known(name: str) -> None:
    model = make_model(name)
    calls = [call_of(name, model, seed) for seed in SEEDS]
    runner = make_runner(model)
    assert WINDOW in runner.decoder.windows.values()
    prefills = [runner.decoder.record(call) for call in calls]
    runner.decoder.windows = dict.fromkeys(runner.decoder.windows)
    assert engine_tokens(runner, prefills) != [whole_tokens(call) for call in calls]


@pytest.mark.parametrize("name", REFUSED)
def test_decoder_that_takes_more_than_the_engine_passes_on_is_refused_in_one_sentence(name: str) -> None:
    model = make_model(name)
    with pytest.raises(BadInput, match=REFUSED[name]) as refused:
        Decoder(model).record(call_of(name, model, 1))
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("use another model")


@pytest.mark.parametrize("name", ["gemma3", "internvl", "qwen2_vl"])
def test_attention_that_adds_its_mask_gives_the_same_tokens(name: str) -> None:
    """Eager attention adds what it is given to the scores: there, True is not a mask."""
    model = make_model(name)
    model.set_attn_implementation("eager")
    calls = [call_of(name, model, seed) for seed in SEEDS]
    runner = make_runner(model)
    prefills = [runner.decoder.record(call) for call in calls]
    assert engine_tokens(runner, prefills) == [whole_tokens(call) for call in calls]


def test_attention_that_takes_no_mask_is_refused() -> None:
    model = make_model("vipllava")
    model.get_decoder().config._attn_implementation = "flash_attention_2"
    with pytest.raises(BadInput, match="flash_attention_2"):
        Decoder(model)


def test_rows_end_where_the_model_would_take_other_rotations_for_all_of_them() -> None:
    longrope = {
        "rope_type": "longrope", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 24,
        "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
    }  # fmt: skip
    model = make_model("vipllava", rope_parameters=longrope)
    rotations = model.get_decoder().rotary_emb

    def turned(length: int) -> Tensor:
        """How position 5 is turned beside a row of that length."""
        cosines: Tensor = rotations(torch.zeros(1), torch.tensor([[5], [length - 1]]))[0]
        return cosines[0]

    num_tokens = Room().row_tokens(model)
    assert torch.equal(turned(num_tokens), turned(6))
    assert not torch.equal(turned(num_tokens + 1), turned(6))
    assert Room(context_tokens=7).row_tokens(model) == 7
