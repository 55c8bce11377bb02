"""Which arm an input takes: what the caller named, the chain's default for the rest, a media codec where none fits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from PIL import Image

from edge_node.arms import MediaForm, Wish, choose_arm
from edge_node.given import GivenPicture, GivenText
from tests.kit.pictures import encoded, textured
from tests.wire.samples import make_chain, make_manifest
from wire.errors import BadInput, CleaveError, UnknownCodec, UnknownSplitPoint
from wire.manifest import Manifest
from wire.v1 import inference_pb2 as pb

PNG = encoded(textured(40, 30))
JPEG = encoded(textured(40, 30), "JPEG")
LISTED = encoded(textured(64, 48), "WEBP")


def manifest_of(*sizes: tuple[int, int]) -> Manifest:
    """A chain for every size, or one for all."""
    plain = make_manifest()
    chains = [
        msgspec.structs.replace(
            make_chain(f"{width}x{height}"),
            input_shape=msgspec.structs.replace(
                make_chain(f"{width}x{height}").input_shape, width=width, height=height
            ),
        )
        for width, height in sizes
    ]
    if not chains:
        return plain
    probe = msgspec.structs.replace(plain.probe, items=[])
    return msgspec.structs.replace(plain, chains=chains, probe=probe)


def model_of(manifest: Manifest, refused: dict[int, str] | None = None) -> pb.Model:
    """The same, as Describe says it."""
    return pb.Model(
        name=manifest.model,
        chains=[
            pb.Chain(
                modality=pb.MODALITY_IMAGE,
                input_shape=pb.InputShape(shape_id=chain.input_shape.shape_id),
                split_points=[
                    pb.SplitPoint(index=i, served=i not in (refused or {}), reason=(refused or {}).get(i, ""))
                    for i in range(len(chain.split_points))
                ],
            )
            for chain in manifest.chains
        ],
    )


ONE, SIZED = manifest_of(), manifest_of((64, 48), (48, 64))


def chosen(manifest: Manifest, data: bytes, **wish: Any) -> tuple[str, int, str]:
    """Shape, split point and codec."""
    arm = choose_arm(model_of(manifest), manifest, GivenPicture(data), Wish(**wish))
    return arm.shape_id, arm.split_point, str(arm.codec)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, (1, "int8:token+zstd")),
        ({"split": 2}, (2, "int8:token+zstd")),
        ({"split": 0}, (0, "int8:token+zstd")),
        ({"codec": "fp16"}, (1, "fp16")),
        ({"split": 2, "codec": "raw+zstd"}, (2, "raw+zstd")),
    ],
)
def test_what_is_left_open_is_the_chains_default(wish: dict[str, Any], expected: tuple[int, str]) -> None:
    assert chosen(ONE, JPEG, **wish) == ("32x32", *expected)


@pytest.mark.parametrize(
    ("wish", "codec"),
    [
        ({"codec": "jpeg:75"}, "jpeg:75"),
        ({"codec": "jpeg"}, "jpeg:90"),
        ({"split": 0, "codec": "avif:33"}, "avif:33"),
        ({"codec": "as-is"}, "jpeg:as-is"),
    ],
)
def test_picture_itself_goes_to_split_point_0_and_has_no_shape(wish: dict[str, Any], codec: str) -> None:
    assert chosen(ONE, JPEG, **wish) == ("", 0, codec)


def test_picture_of_a_listed_size_takes_its_chain_as_if_there_were_no_other() -> None:
    assert chosen(SIZED, LISTED) == ("64x48", 1, "int8:token+zstd")
    assert chosen(SIZED, LISTED, codec="webp:50") == ("", 0, "webp:50")


def test_picture_of_no_listed_size_is_sent_itself_as_it_is_where_it_can_be() -> None:
    assert chosen(SIZED, JPEG) == ("", 0, "jpeg:as-is")
    assert chosen(SIZED, PNG) == ("", 0, "jpeg:90")
    assert chosen(SIZED, PNG, split=0, codec="webp:50") == ("", 0, "webp:50")


def test_size_is_that_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(textured(48, 64), "JPEG", exif=exif)
    assert chosen(SIZED, turned)[0] == "64x48"


@pytest.mark.parametrize(
    ("manifest", "data", "wish", "error", "says"),
    [
        (ONE, PNG, {"split": 3}, UnknownSplitPoint, "0 to 2"),
        (ONE, PNG, {"split": -1}, UnknownSplitPoint, "0 to 2"),
        (ONE, PNG, {"codec": "mp3"}, UnknownCodec, "mp3"),
        (ONE, PNG, {"codec": "jpeg:0"}, UnknownCodec, "1 to 100"),
        (ONE, PNG, {"codec": "flac"}, UnknownCodec, "no media codec of image"),
        (ONE, PNG, {"codec": "jpeg:90", "split": 1}, UnknownCodec, "split point 0"),
        (ONE, PNG, {"codec": "as-is"}, BadInput, "cannot be sent as it is"),
        (SIZED, PNG, {"split": 1}, BadInput, "64x48, 48x64"),
        (SIZED, PNG, {"codec": "raw"}, BadInput, "media codec, which takes any size"),
        (SIZED, b"no picture", {}, BadInput, "known format"),
    ],
)
def test_arm_that_there_is_not_is_one_clear_error(
    manifest: Manifest, data: bytes, wish: dict[str, Any], error: type[CleaveError], says: str
) -> None:
    with pytest.raises(error, match=says):
        chosen(manifest, data, **wish)


def test_split_point_that_the_cloud_refuses_says_why() -> None:
    model = model_of(ONE, {1: "its tail misses the probe"})
    with pytest.raises(UnknownSplitPoint, match="misses the probe"):
        choose_arm(model, ONE, GivenPicture(PNG), Wish())
    assert choose_arm(model, ONE, GivenPicture(PNG), Wish(split=2)).split_point == 2


def test_modality_that_the_model_has_not_is_one_clear_error() -> None:
    with pytest.raises(BadInput, match="takes no text; it takes image"):
        choose_arm(model_of(ONE), ONE, GivenText("hi"), Wish())


def test_form_that_a_file_has_already_is_told_from_the_same_form_made_anew() -> None:
    assert str(MediaForm("jpeg", "")) != str(MediaForm("jpeg", "90"))
