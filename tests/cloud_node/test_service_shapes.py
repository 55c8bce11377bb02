"""Real models of several shapes in one real cloud, over gRPC: languages, embeddings, and models side by side."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloud_node.model.serving import serve
from cloud_node.ready import Ready
from edge_node.preprocess import preprocess
from partitioner.partition import partition
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.loading import Checkpoint, load
from splitmodel.media import Media, MediaInput
from tests.cloud_node.model.test_shapes import sound, whole_tokens
from tests.kit.clouds import cloud_of, num_left, settle
from tests.kit.generations import coded, modality_of
from tests.kit.pictures import textured
from tests.kit.talking import Talk, channel, item_to_wire, talk
from tests.kit.zoo_bundles import checkpoint, partitioned
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

pytestmark = pytest.mark.slow

LANGUAGES = {"<|en|>": 30, "<|fr|>": 31, "<|zh|>": 32}
TASKS = {"transcribe": 40, "translate": 41}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """As if it had been trained on several languages: its generation config says so, and its tokens are any."""
    folder = tmp_path_factory.mktemp("languages")
    loaded = load(str(shutil.copytree(checkpoint("whisper"), folder / "checkpoint")))
    config = loaded.model.generation_config
    # What lies behind the last of these ids stands for a time, and would make pieces of the answer.
    config.is_multilingual, config.no_timestamps_token_id = True, 319
    config.lang_to_id, config.task_to_id = LANGUAGES, TASKS
    bundle = partition(loaded, folder / "bundle", preprocess).folder
    return ready(loaded, "whisper", bundle)


@pytest.fixture(scope="module")
def clip() -> Ready:
    return ready(load(str(checkpoint("clip"))), "clip", partitioned("clip").folder)


@pytest.fixture(scope="module")
def llava(tiny_checkpoint: Path, tiny_bundle: Path) -> Ready:
    return ready(load(str(tiny_checkpoint)), "llava", tiny_bundle)


def ready(loaded: Checkpoint, name: str, folder: Path) -> Ready:
    served, runner = serve(loaded, folder, name)
    return Ready(served, runner, folder)


def opening(
    model: Ready,
    media: list[Media],
    text: str = "",
    *,
    request_id: str = "r1",
    split: int = 1,
    **settings: Any,
) -> pb.Open:
    runner: Any = model.runner
    inputs = []
    for one in media:
        item, payload = coded(runner, one, split)
        chain = model.served.manifest.chain(item.modality, item.shape_id)
        inputs.append(item_to_wire(item, payload, chain))
    return pb.Open(
        request_id=request_id,
        model=model.served.name,
        bundle_digest=model.served.bundle_digest,
        text=text,
        settings=pb.GenerationSettings(**{"max_new_tokens": 8, "temperature": 0.0, **settings}),
        inputs=inputs,
    )


def said(model: Ready, token_ids: list[int]) -> str:
    runner: Any = model.runner
    tokenizer = runner.preparer.adapter.processing.tokenizer
    return str(tokenizer.decode(token_ids, skip_special_tokens=True))


def whole_text(model: Ready, media: list[Media], text: str = "", **settings: Any) -> str:
    runner: Any = model.runner
    return said(model, whole_tokens(runner, media, text, **settings))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {}),
        ({"language": "fr"}, {"language": "<|fr|>"}),
        ({"language": "<|zh|>", "task": "translate"}, {"language": "<|zh|>", "task": "translate"}),
        ({"language": "en", "task": "transcribe"}, {"language": "<|en|>", "task": "transcribe"}),
    ],
    ids=str,
)
def test_language_and_task_give_what_generate_gives_for_them(
    whisper: Ready, asked: dict[str, str], told: dict[str, str]
) -> None:
    async def run() -> str:
        async with cloud_of([whisper]) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(whisper, [sound(1)], **asked))
            return await t.text("r1")

    assert settle(run()) == whole_text(whisper, [sound(1)], **told)


def test_languages_and_tasks_change_the_answer(whisper: Ready) -> None:
    texts = {
        whole_text(whisper, [sound(1)], language=language, task=task)
        for language in ("<|fr|>", "<|zh|>")
        for task in TASKS
    }
    assert len(texts) > 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"language": "de"}, "has no language 'de'; it has en, fr, zh"),
        ({"task": "sing"}, "has no task 'sing'; it has transcribe, translate"),
        ({"language": "x" * 10_000}, "has no language 'xxx"),
    ],
    ids=["language", "task", "long"],
)
def test_language_or_task_that_the_model_does_not_list_is_refused(
    whisper: Ready, asked: dict[str, str], message: str
) -> None:
    async def run() -> pb.Failed:
        async with cloud_of([whisper]) as server, talk(server.address) as t:
            await t.welcomed()
            await t.say(open=opening(whisper, [sound(1)], **asked))
            return await failed(t)

    error = settle(run())
    assert error.code == pb.ERROR_CODE_BAD_INPUT
    assert message in error.message
    assert len(error.message) < 200


def test_language_of_a_model_without_any_and_prompts_and_more_inputs_are_refused(
    llava: Ready, whisper: Ready
) -> None:
    async def run() -> list[pb.Failed]:
        found = []
        async with cloud_of([llava, whisper]) as server, talk(server.address) as t:
            await t.welcomed()
            for message in (
                opening(llava, [textured(48, 48)], "what?", language="fr"),
                opening(whisper, [sound(1)], "what is said?"),
                opening(whisper, [sound(1), sound(2)]),
            ):
                await t.say(open=message)
                found.append(await failed(t))
            assert num_left(server) == 0
        return found

    errors = settle(run())
    assert [error.code for error in errors] == [pb.ERROR_CODE_BAD_INPUT] * 3
    assert "lists no languages" in errors[0].message
    assert "takes no prompt" in errors[1].message
    assert "one input per request" in errors[2].message


async def failed(t: Talk) -> pb.Failed:
    error = await t.hear("failed")
    assert isinstance(error, pb.Failed)
    return error


def test_three_models_answer_side_by_side_on_one_stream(
    llava: Ready, whisper: Ready, clip: Ready, tmp_path: Path
) -> None:
    pictures, texts = [textured(60, 48, seed=1), textured(48, 48, seed=2)], ["a red circle"]

    async def run() -> tuple[str, str, pb.Embedded]:
        async with (
            cloud_of([llava, whisper, clip], num_slots=2, index_dir=tmp_path) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            embedding = opening(clip, [*pictures, *texts], request_id="clip")
            embedding.embed.SetInParent()
            await t.say(open=opening(llava, pictures, "which?", request_id="llava"))
            await t.say(open=opening(whisper, [sound(1)], request_id="whisper"))
            await t.say(open=embedding)
            said_by: dict[str, str] = {"llava": "", "whisper": ""}
            ended: set[str] = set()
            embedded = pb.Embedded()
            while len(ended) < 3:
                down = await t.next()
                for delta in down.deltas.deltas:
                    said_by[delta.request_id] += delta.text
                match down.WhichOneof("message"):
                    case "embedded":
                        embedded = down.embedded
                    case "done":
                        ended.add(down.done.request_id)
                    case "failed":
                        raise AssertionError(down.failed.message)
            assert num_left(server) == 0
            return said_by["llava"], said_by["whisper"], embedded

    by_llava, by_whisper, embedded = settle(run())
    assert by_llava == whole_text(llava, list(pictures), "which?")
    assert by_whisper == whole_text(whisper, [sound(1)])
    adapter = clip.runner.preparer.adapter  # type: ignore[attr-defined]
    assert isinstance(adapter, DualEncoder)
    for vector, one in zip(embedded.vectors, [*pictures, *texts], strict=True):
        expected = adapter.whole_embedding(MediaInput(modality_of(one), one))
        got = torch.frombuffer(bytearray(vector.float32), dtype=torch.float32)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_describe_and_bundles_are_of_all_models_and_an_unknown_one_is_told_their_names(
    llava: Ready, whisper: Ready, clip: Ready
) -> None:
    async def run() -> tuple[pb.DescribeReply, pb.Failed]:
        async with cloud_of([llava, whisper, clip]) as server, channel(server.address) as made:
            stub = pb_grpc.InferenceStub(made)
            reply = await stub.Describe(pb.DescribeRequest())
            for model in (llava, whisper, clip):
                request = pb.FetchBundleRequest(
                    bundle_digest=model.served.bundle_digest, path="manifest.json"
                )
                data = b"".join([part.data async for part in stub.FetchBundle(request)])
                assert data == (model.bundle / "manifest.json").read_bytes()
            async with talk(server.address) as t:
                await t.welcomed()
                unknown = opening(llava, [textured(48, 48)], "what?")
                unknown.model = "gpt"
                await t.say(open=unknown)
                return reply, await failed(t)

    reply, error = settle(run())
    assert [(model.name, model.shape, model.decoding) for model in reply.models] == [
        ("llava", "generator", "batched"),
        ("whisper", "encoder-decoder", "one by one"),
        ("clip", "dual encoder", ""),
    ]
    assert [chain.modality for chain in reply.models[2].chains] == [pb.MODALITY_IMAGE, pb.MODALITY_TEXT]
    assert {"jpeg", "flac"} <= {codec.codec_id for codec in reply.codecs}
    assert error.code == pb.ERROR_CODE_UNKNOWN_MODEL
    assert "'llava', 'whisper', 'clip', not 'gpt'" in error.message
