"""Which chain takes an input: all, those of a picture's exact size, or the shortest sound that holds it."""

from __future__ import annotations

import msgspec
import pytest

from edge_node.shapes import chain_for, lists_sizes, no_such_shape
from tests.wire.samples import make_chain
from wire.chain_entries import Chain
from wire.sizes import ImageSize, Size, SoundSize

RATE = 16_000


def picture_chain(width: int, height: int) -> Chain:
    return _listed(f"{width}x{height}", width=width, height=height)


def sound_chain(samples: int) -> Chain:
    return _listed(f"{samples}@{RATE}", samples=samples)


def _listed(shape_id: str, **size: int) -> Chain:
    chain = make_chain(shape_id)
    return msgspec.structs.replace(chain, input_shape=msgspec.structs.replace(chain.input_shape, **size))


PICTURES = [picture_chain(640, 480), picture_chain(480, 640)]
SOUNDS = [sound_chain(5 * RATE), sound_chain(15 * RATE), sound_chain(2 * RATE)]


def test_chain_without_a_listed_size_takes_every_input() -> None:
    only = make_chain()
    assert not lists_sizes([only])
    for size in (None, ImageSize(1, 1), ImageSize(4000, 3000)):
        assert chain_for([only], size) is only


@pytest.mark.parametrize(("size", "index"), [((640, 480), 0), ((480, 640), 1)])
def test_picture_takes_the_chain_of_its_exact_size(size: tuple[int, int], index: int) -> None:
    assert lists_sizes(PICTURES)
    assert chain_for(PICTURES, ImageSize(*size)) is PICTURES[index]


@pytest.mark.parametrize("size", [(639, 480), (640, 481), (480, 480), (64, 48), (1280, 960)])
def test_picture_of_another_size_has_no_chain(size: tuple[int, int]) -> None:
    assert chain_for(PICTURES, ImageSize(*size)) is None


@pytest.mark.parametrize(
    ("samples", "index"),
    [(1, 2), (2 * RATE, 2), (2 * RATE + 1, 0), (5 * RATE, 0), (5 * RATE + 1, 1), (15 * RATE, 1)],
)
def test_sound_takes_the_shortest_listed_length_that_holds_it(samples: int, index: int) -> None:
    assert chain_for(SOUNDS, SoundSize(samples, RATE)) is SOUNDS[index]


def test_sound_that_is_longer_than_all_listed_has_no_chain() -> None:
    assert chain_for(SOUNDS, SoundSize(15 * RATE + 1, RATE)) is None


@pytest.mark.parametrize(
    ("chains", "size", "says"),
    [
        (PICTURES, ImageSize(30, 40), ["30x40", "640x480, 480x640", "split point 0", "any size"]),
        (SOUNDS, SoundSize(RATE * 20, RATE), ["20.00 s", "5 s, 15 s, 2 s", "split point 0", "any size"]),
    ],
)
def test_what_is_said_names_the_listed_sizes_and_the_way_out(
    chains: list[Chain], size: Size, says: list[str]
) -> None:
    sentence = str(no_such_shape("tiny", chains, size))
    assert all(what in sentence for what in says), sentence
