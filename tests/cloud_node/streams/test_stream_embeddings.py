"""Embeddings on a stream: they come back, are kept in an index, or look for what is near; and what may not be asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud_node.asked.served import Served
from cloud_node.retrieval import indexes as indexes_module
from tests.kit.clouds import SECRET, FakeEncodingRunner, cloud, num_left, settle
from tests.kit.talking import Talk, item_of, opening, talk
from wire.v1 import inference_pb2 as pb


@pytest.fixture
def dual(served: Served) -> Served:
    """The sample bundle, as if its model were a dual encoder."""
    return replace(served, manifest=msgspec.structs.replace(served.manifest, shape="dual encoder"))


def asked(dual: Served, axes: list[int], request_id: str = "r1", **then: Any) -> pb.Open:
    """Inputs whose vectors lie along those axes."""
    chain = dual.manifest.chains[0]
    items = [item_of(chain, payload=bytes([axis]) * 528) for axis in axes]
    message = opening(dual, "", request_id=request_id, inputs=items)
    message.embed.CopyFrom(pb.Embed(**then))
    return message


def add(index: str, *item_ids: str) -> dict[str, Any]:
    return {"add": pb.IndexAdd(index=index, item_ids=item_ids)}


def search(index: str, num_hits: int = 3) -> dict[str, Any]:
    return {"search": pb.IndexSearch(index=index, num_hits=num_hits)}


async def embedded(t: Talk, message: pb.Open) -> pb.Embedded:
    """What the request gets before its Done."""
    await t.say(open=message)
    found = await t.hear("embedded", message.request_id)
    done = await t.hear("done", message.request_id)
    assert (done.finish_reason, done.generated_tokens) == (pb.FINISH_REASON_UNSPECIFIED, 0)
    assert isinstance(found, pb.Embedded)
    return found


async def failed(t: Talk, message: pb.Open) -> pb.Failed:
    await t.say(open=message)
    error = await t.hear("failed", message.request_id)
    assert isinstance(error, pb.Failed)
    return error


def test_vectors_come_back_in_the_inputs_order_and_then_done(dual: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(dual, bundle, FakeEncodingRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            found = await embedded(t, asked(dual, [5, 0, 255]))
            rows = np.stack([np.frombuffer(vector.float32, "<f4") for vector in found.vectors])
            assert rows.argmax(1).tolist() == [5, 0, 255]
            np.testing.assert_array_equal(np.linalg.norm(rows, axis=1), 1)
            assert (list(found.hits), found.num_indexed) == ([], 0)
            assert num_left(server) == 0

    settle(run())


def test_what_was_added_is_found_also_after_a_restart(dual: Served, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "indexes"

    async def first() -> None:
        async with (
            cloud(dual, bundle, FakeEncodingRunner(), index_dir=folder) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            assert (
                await embedded(t, asked(dual, [1, 2], "r1", **add("photos", "one", "two")))
            ).num_indexed == 2
            assert (await embedded(t, asked(dual, [3], "r2", **add("photos", "two")))).num_indexed == 2
            found = await embedded(t, asked(dual, [3], "r3", **search("photos")))
            assert [(hit.item_id, round(hit.similarity, 5)) for hit in found.hits] == [("two", 1), ("one", 0)]
            assert (found.num_indexed, len(found.vectors)) == (2, 0)

    async def second() -> None:
        async with (
            cloud(dual, bundle, FakeEncodingRunner(), index_dir=folder) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            found = await embedded(t, asked(dual, [1], **search("photos", 1)))
            assert [hit.item_id for hit in found.hits] == ["one"]

    settle(first())
    settle(second())


def test_cloud_without_a_folder_says_to_give_one(dual: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(dual, bundle, FakeEncodingRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            for name, then in (("a", add("photos", "one")), ("b", search("photos"))):
                error = await failed(t, asked(dual, [1], name, **then))
                assert error.code == pb.ERROR_CODE_BAD_INPUT
                assert "--index-dir" in error.message
            assert num_left(server) == 0

    settle(run())


@pytest.mark.parametrize(
    ("axes", "then", "code"),
    [
        ([1], add("", "one"), pb.ERROR_CODE_MALFORMED_MESSAGE),
        ([1], add("../up", "one"), pb.ERROR_CODE_MALFORMED_MESSAGE),
        ([1], add("a" * 65, "one"), pb.ERROR_CODE_MALFORMED_MESSAGE),
        ([1], add("photos"), pb.ERROR_CODE_MALFORMED_MESSAGE),
        ([1], add("photos", "one", "two"), pb.ERROR_CODE_MALFORMED_MESSAGE),
        ([1], add("photos", ""), pb.ERROR_CODE_BAD_INPUT),
        ([1], add("photos", "x" * 257), pb.ERROR_CODE_BAD_INPUT),
        ([1, 2], add("photos", "one", "one"), pb.ERROR_CODE_BAD_INPUT),
        ([1, 2], search("photos"), pb.ERROR_CODE_BAD_INPUT),
        ([1], search("photos", 0), pb.ERROR_CODE_BAD_INPUT),
        ([1], search("photos", 1001), pb.ERROR_CODE_BAD_INPUT),
        ([1], search("unknown"), pb.ERROR_CODE_BAD_INPUT),
        ([1], search("a/b"), pb.ERROR_CODE_MALFORMED_MESSAGE),
    ],
)
def test_what_no_index_takes_is_refused(
    dual: Served,
    bundle: Path,
    tmp_path: Path,
    axes: list[int],
    then: dict[str, Any],
    code: pb.ErrorCode.ValueType,
) -> None:
    async def run() -> None:
        async with (
            cloud(dual, bundle, FakeEncodingRunner(), index_dir=tmp_path / "indexes") as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            assert (await failed(t, asked(dual, axes, **then))).code == code
            assert num_left(server) == 0
        assert list((tmp_path / "indexes").iterdir()) == []

    settle(run())


def test_dual_encoder_takes_no_question_and_a_generator_no_embed(
    dual: Served, served: Served, bundle: Path
) -> None:
    async def run(model: Served, message: pb.Open) -> None:
        async with cloud(model, bundle, FakeEncodingRunner()) as server, talk(server.address) as t:
            await t.welcomed()
            assert (await failed(t, message)).code == pb.ERROR_CODE_BAD_INPUT

    question = asked(dual, [1])
    question.text = "what?"
    without = asked(dual, [1])
    without.ClearField("embed")
    generating = opening(served, "what?")
    generating.embed.SetInParent()
    for model, message in ((dual, question), (dual, without), (served, generating)):
        settle(run(model, message))


def test_failure_of_the_disk_ends_its_request_without_its_text(
    dual: Served, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> int:
        raise OSError(SECRET)

    monkeypatch.setattr(indexes_module.DiskIndexes, "add", broken)

    async def run() -> None:
        async with (
            cloud(dual, bundle, FakeEncodingRunner(), index_dir=tmp_path) as server,
            talk(server.address) as t,
        ):
            await t.welcomed()
            error = await failed(t, asked(dual, [1], **add("photos", "one")))
            assert error.code == pb.ERROR_CODE_INTERNAL
            assert SECRET not in error.message
            assert len((await embedded(t, asked(dual, [1], "r2"))).vectors) == 1

    settle(run())


def test_embeddings_are_made_from_cached_features(dual: Served, bundle: Path) -> None:
    runner = FakeEncodingRunner()

    async def run() -> None:
        async with cloud(dual, bundle, runner) as server, talk(server.address) as t:
            await t.welcomed()
            first = asked(dual, [7])
            first.inputs[0].input_key = bytes(32)
            await embedded(t, first)
            again = asked(dual, [7], "r2")
            again.inputs[0].input_key = bytes(32)
            again.inputs[0].payload = b""
            found = await embedded(t, again)
            assert np.frombuffer(found.vectors[0].float32, "<f4").argmax() == 7
        assert len(runner.payloads) == 2

    settle(run())
