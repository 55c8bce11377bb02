"""Features in their media's place: each shape of model answers as the whole does, from one input or from several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from splitmodel.adapters.base import Adapter
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.encoder import AnyEncoded, Encoded, Encoder
from splitmodel.media import Media, MediaInput, size_of
from splitmodel.model_call import ModelCall
from tests.kit.zoo_adapters import adapter_of, encoders_of, through, untraced
from wire.errors import BadInput
from wire.modality import Modality

pytestmark = pytest.mark.slow
NUM_TOKENS = 8
# Among five made pictures, or sounds.
WIDE, SQUARE = 4, 2
# One picture; tiles along either axis; patches of a size; a sound's tower, and a method that features stand in for.
GENERATORS: list[tuple[str, Modality]] = [
    ("llava", "image"),
    ("internvl", "image"),
    ("smolvlm", "image"),
    ("qwen2_5_vl", "image"),
    ("qwen2_audio", "audio"),
    ("audioflamingo3", "audio"),
]
# One window; a wave with a mask; a picture without a processor class of its own; one whose decoder reads a prompt, too.
OTHERS: list[tuple[str, Modality]] = [
    ("whisper", "audio"),
    ("moonshine", "audio"),
    ("vit_gpt2", "image"),
    ("florence2", "image"),
]
COMPARED: list[tuple[str, Modality]] = [("clip", "image"), ("clip", "text"), ("clap", "audio")]


def prompt_for(adapter: Adapter) -> str:
    return "What is this?" if adapter.processing.takes_prompt else ""


def tokens(call: ModelCall) -> list[int]:
    ids = call.generate(max_new_tokens=NUM_TOKENS, do_sample=False)[0].tolist()
    return list(ids[call.prompt_tokens :])


def middle(encoder: Encoder) -> int:
    return encoder.chain.num_stages // 2


def zeroed(encoded: Encoded) -> Encoded:
    return replace(encoded, tiles=[[torch.zeros_like(t) for t in tile] for tile in encoded.tiles])


def whole_tokens(adapter: Adapter, encoder: Encoder, media: Sequence[Media]) -> list[int]:
    return tokens(adapter.whole([MediaInput(encoder.modality, one) for one in media], prompt_for(adapter)))


@pytest.mark.parametrize(("name", "modality"), [*GENERATORS, *OTHERS])
def test_features_lead_to_the_tokens_of_the_whole_model(name: str, modality: Modality) -> None:
    adapter, encoder = adapter_of(name), encoders_of(name, modality)[0]
    prompt, without, others = prompt_for(adapter), 0, 0
    media = untraced(name, encoder, 3)
    encoded = [through(name, encoder, one, middle(encoder)) for one in media]
    for index, (one, made) in enumerate(zip(media, encoded, strict=True)):
        expected = whole_tokens(adapter, encoder, [one])
        assert tokens(adapter.split([made], prompt)) == expected
        assert whole_tokens(adapter, encoder, [one]) == expected, "splitting left something on the model"
        without += tokens(adapter.split([zeroed(made)], prompt)) != expected
        another = encoded[index - 1]
        if len(another.tiles) == len(made.tiles):
            swapped = replace(made, tiles=another.tiles)
            others += tokens(adapter.split([swapped], prompt)) != expected
    assert without, "the answers ignore their features"
    assert others, "the answers ignore which features they are given"


@pytest.mark.parametrize(("name", "modality"), COMPARED)
def test_embedding_is_the_whole_models_and_of_length_one(name: str, modality: Modality) -> None:
    adapter, [encoder] = adapter_of(name), encoders_of(name, modality)
    assert isinstance(adapter, DualEncoder)
    made = []
    for one in untraced(name, encoder, 3):
        vector = adapter.embedding(through(name, encoder, one, middle(encoder)))
        assert vector.dtype == torch.float32
        assert float(vector.norm()) == pytest.approx(1.0)
        assert torch.allclose(vector, adapter.whole_embedding(MediaInput(modality, one)), atol=1e-6)
        made.append(vector)
    differences = [float((made[0] - other).abs().max()) for other in made[1:]]
    assert min(differences) > 1e-3, "the embeddings ignore their inputs"


@pytest.mark.parametrize(("name", "modality"), GENERATORS[:-1])
def test_two_inputs_in_one_request_are_told_apart(name: str, modality: Modality) -> None:
    """Of different sizes, where a model lists several or makes another number of tiles of them."""
    adapter, encoders = adapter_of(name), encoders_of(name, modality)
    prompt, first, second = prompt_for(adapter), encoders[0], encoders[-1]
    media = [untraced(name, first, 5)[WIDE], untraced(name, second, 5)[SQUARE]]
    encoded: list[AnyEncoded] = [
        through(name, encoder, one, middle(encoder))
        for encoder, one in zip((first, second), media, strict=True)
    ]
    answers = []
    for order in ((0, 1), (1, 0), (0, 0), (1, 1)):
        answer = tokens(adapter.split([encoded[index] for index in order], prompt))
        assert answer == whole_tokens(adapter, first, [media[index] for index in order]), order
        answers.append(tuple(answer))
    assert len(set(answers)) > 2, "the answers ignore which input is where"


def test_tiles_of_two_pictures_are_of_different_numbers() -> None:
    """So that the test above shows whose tile is whose."""
    for name in ("internvl", "smolvlm"):
        [encoder] = encoders_of(name, "image")
        samples = untraced(name, encoder, 5)
        counts = [len(through(name, encoder, samples[index], 0).tiles) for index in (WIDE, SQUARE)]
        assert counts[0] != counts[1]


def test_model_whose_processor_reads_one_sound_refuses_two_in_one_sentence() -> None:
    adapter, encoders = adapter_of("audioflamingo3"), encoders_of("audioflamingo3", "audio")
    encoded: list[AnyEncoded] = [
        through("audioflamingo3", encoder, untraced("audioflamingo3", encoder, 1)[0], 1)
        for encoder in encoders
    ]
    with pytest.raises(
        BadInput, match=r"does not take these inputs: .*; ask about others, or about fewer"
    ) as told:
        adapter.split(encoded, "what?")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "modality"), [("llava", "image"), ("internvl", "image"), ("qwen2_audio", "audio")]
)
def test_input_that_no_chain_is_for_goes_through_the_models_own_encoder(
    name: str, modality: Modality
) -> None:
    adapter, encoder = adapter_of(name), encoders_of(name, modality)[0]
    [media] = untraced(name, encoder, 1)
    given = adapter.encoder_input(modality, media)
    encoded = adapter.encode_whole(modality, given, size_of(media, adapter.processing.rate_hz))
    assert tokens(adapter.split([encoded], prompt_for(adapter))) == whole_tokens(adapter, encoder, [media])


def test_model_that_reads_one_input_refuses_two_and_a_prompt() -> None:
    adapter, [encoder] = adapter_of("vit_gpt2"), encoders_of("vit_gpt2", "image")
    [media] = untraced("vit_gpt2", encoder, 1)
    one = through("vit_gpt2", encoder, media, 1)
    for several in ([], [one, one]):
        with pytest.raises(BadInput, match=f"reads one input per request, and {len(several)} came"):
            adapter.split(several, "")
    with pytest.raises(BadInput, match="takes no prompt beside its input; leave it empty"):
        adapter.split([one], "what?")


def test_model_that_generates_nothing_refuses_to_answer() -> None:
    with pytest.raises(BadInput, match="generates nothing; ask for embeddings, or search"):
        adapter_of("clip").split([], "")
