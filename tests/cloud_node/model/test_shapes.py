"""Models of several shapes through the real runners: the whole model's tokens, whatever they share a batch with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_node.asked.sequence import Embeddings, FinishReason
from cloud_node.model.loop_runner import LoopRunner
from cloud_node.model.serving import AnyRunner, serve
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.loading import load
from splitmodel.media import Media, MediaInput
from tests.kit.generations import Asked, modality_of, run_alone, run_together
from tests.kit.pictures import textured
from tests.kit.zoo_bundles import checkpoint, partitioned
from wire.errors import ModelFailed

pytestmark = pytest.mark.slow

RATE = 16_000
_served: dict[str, AnyRunner] = {}


def runner_of(name: str) -> AnyRunner:
    """Of a family of the zoo; loaded at most once."""
    if name not in _served:
        _served[name] = serve(load(str(checkpoint(name))), partitioned(name).folder)[1]
    return _served[name]


@pytest.fixture(scope="module")
def llava(tiny_checkpoint: Path, tiny_bundle: Path) -> AnyRunner:
    return serve(load(str(tiny_checkpoint)), tiny_bundle)[1]


def sound(seed: int, seconds: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A gliding tone in noise that swells and fades; another pitch, loudness and time for every seed."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (150 * 2.5**seed + 300 * times) * times)
    noise = rng.standard_normal(len(times)) * (1 + np.sin(2 * np.pi * (seed + 1) * times + seed))
    return (0.4 * tone + 0.1 * seed * noise).astype(np.float32)


def whole_tokens(
    runner: AnyRunner, media: list[Media], prompt: str, max_new_tokens: int = 8, **settings: Any
) -> list[int]:
    """What the whole model's own `generate` answers, greedily."""
    inputs = [MediaInput(modality_of(one), one) for one in media]
    call = runner.preparer.adapter.whole(inputs, prompt)
    answer = call.generate(do_sample=False, max_new_tokens=max_new_tokens, **settings)[0].tolist()
    return list(answer[call.prompt_tokens :])


def last_split(runner: AnyRunner) -> int:
    return min(len(tail.listed.stages) for tail in runner.preparer.tails.by_id.values())


def test_two_pictures_in_one_request_give_the_whole_models_tokens(llava: AnyRunner) -> None:
    one, other = textured(60, 48, seed=1), textured(48, 48, seed=2)
    expected = whole_tokens(llava, [one, other], "which?")
    assert expected != whole_tokens(llava, [other, one], "which?")
    assert expected != whole_tokens(llava, [one, one], "which?")
    asked = [Asked(llava, [one, other], "which?", split=split, codec="raw+zstd") for split in (0, 4, 9)]
    alone = Asked(llava, one, "what?", split=2)
    run_together(llava, [asked[0], alone, *asked[1:]])
    assert [one.token_ids for one in asked] == [expected] * 3
    assert alone.token_ids == whole_tokens(llava, [textured(60, 48, seed=1)], "what?")


def test_failure_of_one_input_is_its_own_requests(llava: AnyRunner) -> None:
    picture = textured(48, 48, seed=1)
    good, bad = Asked(llava, [picture, picture], split=3), Asked(llava, [picture, picture], split=3)
    payloads = bad.sequence.payloads
    bad.sequence.payloads = (payloads[0], payloads[1][:-1])
    run_together(llava, [bad, good])
    assert not hasattr(bad.end, "reason")
    assert good.token_ids == whole_tokens(llava, [picture, picture], "what?")


@pytest.mark.parametrize("name", ["whisper", "moonshine", "vit_gpt2"])
def test_encoder_decoder_gives_the_tokens_of_the_whole_models_generate(name: str) -> None:
    runner = runner_of(name)
    assert isinstance(runner, LoopRunner)
    heard = name != "vit_gpt2"
    media: list[Media] = [sound(seed) if heard else textured(64, 64, seed) for seed in range(3)]
    expected = [whole_tokens(runner, [one], "") for one in media]
    assert expected[0] != expected[1], "answers that do not depend on the input prove nothing"
    asked = [
        Asked(runner, one, "", split=split)
        for one, split in zip(media, (0, 1, last_split(runner)), strict=True)
    ]
    run_together(runner, asked)
    # Some give back the start token that their decoders begin with.
    start = len(expected[0]) - len(asked[0].token_ids)
    assert start in (0, 1)
    assert [one.token_ids for one in asked] == [tokens[start:] for tokens in expected]
    assert all(one.finished.prompt_tokens == 1 for one in asked)


@pytest.mark.parametrize(
    "settings",
    [{"repetition_penalty": 1.8}, {"min_new_tokens": 12}, {"min_new_tokens": 12, "repetition_penalty": 1.3}],
    ids=str,
)
def test_settings_of_a_loop_are_those_of_generate(settings: dict[str, Any]) -> None:
    runner = runner_of("whisper")
    expected = whole_tokens(runner, [sound(1)], "", max_new_tokens=14, **settings)
    asked = run_alone(runner, Asked(runner, sound(1), "", max_new_tokens=14, **settings))
    assert asked.token_ids == expected[-len(asked.token_ids) :]
    assert len(asked.token_ids) >= settings.get("min_new_tokens", 0)


def test_draws_of_a_loop_depend_on_the_seed_and_on_no_other_row() -> None:
    runner = runner_of("whisper")
    settings = {"temperature": 1.2, "max_new_tokens": 12, "min_new_tokens": 12}
    alone = run_alone(runner, Asked(runner, sound(0), "", seed=7, **settings))
    again, other, greedy = (
        Asked(runner, sound(0), "", seed=7, **settings),
        Asked(runner, sound(0), "", seed=8, **settings),
        Asked(runner, sound(1), ""),
    )
    run_together(runner, [other, greedy, again])
    assert again.token_ids == alone.token_ids != other.token_ids


def test_answer_of_a_loop_ends_where_its_decoder_reads_no_further() -> None:
    runner = runner_of("whisper")
    settings = {"max_new_tokens": 4000, "min_new_tokens": 4000, "repetition_penalty": 1.1}
    asked = run_alone(runner, Asked(runner, sound(0), "", **settings))
    assert asked.finished.reason is FinishReason.LENGTH
    assert asked.finished.prompt_tokens + asked.finished.generated_tokens == 128


def test_step_of_a_loop_that_fails_ends_its_own_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of("whisper")
    good, bad = (Asked(runner, sound(seed), "", max_new_tokens=6, min_new_tokens=6) for seed in (0, 1))
    expected = run_alone(runner, Asked(runner, sound(0), "", max_new_tokens=6, min_new_tokens=6)).token_ids
    sequences = [good.sequence, bad.sequence]
    assert list(runner.prepare(sequences)) == [None, None]
    prompt: Any = bad.sequence.prompt
    monkeypatch.setattr(type(prompt.loop), "step", _failing(type(prompt.loop).step, prompt.loop))
    monkeypatch.setattr(runner, "prepare", lambda sequences: [None] * len(sequences))
    run_together(runner, [bad, good])
    assert isinstance(bad.end, ModelFailed)
    assert good.token_ids == expected


def _failing(step: Any, loop: Any) -> Any:
    def stepped(self: Any, token_id: int) -> Any:
        if self is loop:
            raise RuntimeError("spoiled")
        return step(self, token_id)

    return stepped


@pytest.mark.parametrize("name", ["florence2", "qwen2_audio"])
def test_generator_of_another_kind_gives_the_whole_models_tokens(name: str) -> None:
    runner = runner_of(name)
    media: list[Media] = (
        [sound(0), sound(2)] if name == "qwen2_audio" else [textured(64, 64, s) for s in (0, 1)]
    )
    expected = [whole_tokens(runner, [one], "what is it?") for one in media]
    assert expected[0] != expected[1]
    asked = [Asked(runner, one, "what is it?", split=last_split(runner)) for one in media]
    run_together(runner, asked)
    assert [one.token_ids for one in asked] == [
        tokens[-len(one.token_ids) :] for one, tokens in zip(asked, expected, strict=True)
    ]


@pytest.mark.parametrize("name", ["clip", "clap"])
def test_embeddings_are_the_whole_models(name: str) -> None:
    runner = runner_of(name)
    adapter = runner.preparer.adapter
    assert isinstance(adapter, DualEncoder)
    seen: list[Media] = [sound(0), sound(1)] if name == "clap" else [textured(80, 64, s) for s in (0, 1)]
    media = [*seen, "a red circle"]
    asked = Asked(runner, media, "", split=1)
    (outcome,) = runner.prepare([asked.sequence])
    assert isinstance(outcome, Embeddings)
    expected = np.stack([adapter.whole_embedding(MediaInput(modality_of(one), one)).numpy() for one in media])
    np.testing.assert_allclose(outcome.vectors, expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(outcome.vectors, axis=1), 1, atol=1e-5)
