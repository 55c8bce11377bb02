"""Inputs of several tiles: the whole model's answer, and no peer's word about how many there are."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

import pytest

from tests.cloud_node.model.test_shapes import runner_of, whole_tokens
from tests.kit.generations import Asked, run_alone, run_together
from tests.kit.pictures import textured
from wire.errors import BadInput
from wire.sizes import ImageSize

pytestmark = pytest.mark.slow

WIDE, SMALL = textured(300, 70, seed=1), textured(64, 64, seed=2)
TILED = ["internvl", "smolvlm"]


def num_tiles(asked: Asked) -> int:
    return asked.sequence.request.inputs[0].num_tiles


@pytest.mark.parametrize("name", TILED)
def test_pictures_of_several_tiles_give_the_whole_models_tokens(name: str) -> None:
    runner = runner_of(name)
    asked = [
        Asked(runner, WIDE, split=2),
        Asked(runner, SMALL, split=1),
        Asked(runner, [SMALL, WIDE], split=3),
    ]
    assert num_tiles(asked[0]) != num_tiles(asked[1])
    assert num_tiles(asked[0]) > 1
    run_together(runner, asked)
    expected = [whole_tokens(runner, media, "what?") for media in ([WIDE], [SMALL], [SMALL, WIDE])]
    assert [one.token_ids for one in asked] == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize("name", TILED)
@pytest.mark.parametrize("change", [-1, 1], ids=["one fewer", "one more"])
def test_tiles_that_do_not_fit_the_size_end_their_own_request(name: str, change: int) -> None:
    runner = runner_of(name)
    bad, good = Asked(runner, WIDE, split=2), Asked(runner, SMALL, split=2)
    item, count = bad.sequence.request.inputs[0], num_tiles(bad)
    one = item.total_bytes // count
    data = bytes(bad.sequence.payloads[0])[:one] * (count + change)
    changed = replace(item, num_tiles=count + change, payload_sizes=(len(data),), crc32=crc32(data))
    bad.sequence.request = replace(bad.sequence.request, inputs=(changed,))
    bad.sequence.payloads = (memoryview(data),)
    run_together(runner, [bad, good])
    assert isinstance(bad.end, BadInput)
    assert f"has {count + change} tiles, and the model makes {count}" in str(bad.end)
    assert good.token_ids == whole_tokens(runner, [SMALL], "what?")


@pytest.mark.parametrize("size", [ImageSize(64, 64), ImageSize(70, 300), ImageSize(1, 1), ImageSize(1, 200)])
def test_size_that_its_tiles_are_not_of_ends_its_own_request(size: ImageSize) -> None:
    runner = runner_of("internvl")
    bad = Asked(runner, WIDE, split=2)
    item = replace(bad.sequence.request.inputs[0], size=size)
    count = runner.preparer.tails._num_tiles(item.chain_id, size)
    bad.sequence.request = replace(bad.sequence.request, inputs=(item,))
    run_alone(runner, bad)
    if count != num_tiles(bad):
        assert isinstance(bad.end, BadInput)
    else:
        assert bad.finished


def test_number_of_tiles_of_a_size_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of("internvl")
    tails, asked = runner.preparer.tails, []
    tails._num_tiles.cache_clear()
    real = tails.adapter.num_tiles
    monkeypatch.setattr(tails.adapter, "num_tiles", lambda *given: asked.append(given) or real(*given))
    for _ in range(3):
        run_alone(runner, Asked(runner, SMALL, split=1, max_new_tokens=1))
    assert len(asked) == 1
