"""What announces coded features says exactly what they are: for features of every kind of chain, and for media."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_node.arms import Arm, Wish, choose_arm
from edge_node.coding import Coded, code
from edge_node.given import Given, GivenPicture, GivenSound, GivenText
from edge_node.head import Head
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned
from tests.kit.pictures import encoded, textured
from tests.kit.shapes import partitioned
from tests.kit.zoo_bundles import partitioned as zoo
from wire.codecs import decode, find_codec
from wire.errors import TooLarge
from wire.media.registry import find_media_codec
from wire.modality import modality_to_wire
from wire.sizes import ImageSize, Size, SoundSize, TextSize, size_from_wire
from wire.tensors import check_headers
from wire.v1 import inference_pb2 as pb

RATE = 16_000
KEY = bytes(range(32))
JPEG = encoded(textured(60, 40), "JPEG")


def coded_by(made: Partitioned, given: Given, **wish: Any) -> tuple[Arm, Coded]:
    """At an arm of a bundle, of which the cloud refuses nothing."""
    arm = choose_arm(pb.Model(name="tiny"), made.manifest, given, Wish(**wish))
    return arm, code(arm, Head(made.folder, arm.chain), given, made.folder, KEY)[0]


def require_right(made: Partitioned, given: Given, size: Size, split: int) -> pb.Input:
    """The announcement is the boundary's own, and the payload decodes to what the head made."""
    arm, coded = coded_by(made, given, split=split, codec="raw+zstd")
    item, chain = coded.item, arm.chain
    assert (item.modality, item.input_key) == (modality_to_wire(given.modality), KEY)
    assert (item.shape_id, item.split_point) == (chain.input_shape.shape_id, split)
    assert (item.codec_id, item.setting) == ("raw+zstd", "")
    assert size_from_wire(item, given.modality) == size
    specs = chain.boundary(split, item.num_tiles)
    sizes = check_headers(item.tensors, specs)
    assert sum(sizes) == item.total_bytes == len(coded.payload)
    decoded = decode(find_codec(item.codec_id, item.setting), memoryview(coded.payload), sizes, specs)
    tensors = preprocess(chain.preprocessing, given.media(chain), made.folder)
    for got, expected in zip(decoded, Head(made.folder, chain).run(tensors, split), strict=True):
        assert np.array_equal(got, expected)
    assert coded.label == chain.split_points[split].label
    return item


@pytest.mark.parametrize("split", [0, 2, 9])
def test_picture(split: int) -> None:
    made = partitioned("clip, 2 layers")
    item = require_right(made, GivenPicture(textured(60, 40)), ImageSize(60, 40), split)
    assert item.num_tiles == 0


@pytest.mark.slow
@pytest.mark.parametrize("split", [0, 1, 4])
def test_picture_in_tiles(split: int) -> None:
    made = zoo("smolvlm")
    counts = set()
    for width, height in ((30, 30), (300, 90)):
        given = GivenPicture(textured(width, height))
        counts.add(require_right(made, given, ImageSize(width, height), split).num_tiles)
    assert len(counts) == 2
    assert min(counts) > 0


@pytest.mark.slow
@pytest.mark.parametrize("split", [0, 3])
def test_text(split: int) -> None:
    made = zoo("clip")
    length = made.manifest.chain("text").split_points[0].tensors[0].shape[1]
    require_right(made, GivenText("a red circle"), TextSize(length), split)


@pytest.mark.slow
@pytest.mark.parametrize("split", [0, 2])
def test_sound_of_any_length(split: int) -> None:
    made = zoo("clap")
    sound = np.random.default_rng(0).normal(0, 0.1, 7000).astype(np.float32)
    require_right(made, GivenSound((sound, RATE)), SoundSize(7000, RATE), split)


@pytest.mark.slow
@pytest.mark.parametrize(("length", "listed"), [(5000, 16_000), (16_000, 16_000), (16_001, 48_000)])
def test_sound_that_is_padded_says_the_listed_length(length: int, listed: int) -> None:
    made = zoo("moonshine")
    sound = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    require_right(made, GivenSound((sound, RATE)), SoundSize(listed, RATE), 1)


@pytest.mark.parametrize(
    ("codec", "codec_id", "setting"),
    [("jpeg:70", "jpeg", "70"), ("webp", "webp", "80"), ("as-is", "jpeg", "")],
)
def test_picture_itself(codec: str, codec_id: str, setting: str) -> None:
    made = partitioned("clip, 2 layers")
    _arm, coded = coded_by(made, GivenPicture(JPEG), codec=codec)
    item = coded.item
    assert (item.split_point, item.codec_id, item.setting) == (0, codec_id, setting)
    assert (list(item.tensors), item.num_tiles, item.total_bytes) == ([], 0, len(coded.payload))
    assert item.shape_id == ""
    assert size_from_wire(item, "image") == ImageSize(60, 40)
    assert find_media_codec(codec_id, setting).decode(coded.payload).size == (60, 40)
    assert (coded.payload == JPEG) is (codec == "as-is")


@pytest.mark.slow
def test_sound_itself_has_its_own_length_and_no_listed_shape() -> None:
    made = zoo("moonshine")
    sound = np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)
    _, coded = coded_by(made, GivenSound((sound, RATE)), codec="flac")
    assert (coded.item.shape_id, coded.item.codec_id) == ("", "flac")
    assert size_from_wire(coded.item, "audio") == SoundSize(50_000, RATE)


@pytest.mark.slow
def test_more_tiles_than_the_wire_takes_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.coding.MAX_TILES", 2)
    with pytest.raises(TooLarge, match="tiles"):
        coded_by(zoo("smolvlm"), GivenPicture(textured(300, 90)), split=0, codec="raw")
