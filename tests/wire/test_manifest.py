"""The manifest: what is written is read, and what does not fit together is refused with a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.wire.samples import PREPROCESSING, make_chain, make_manifest
from wire.errors import (
    BadInput,
    CleaveError,
    IncompatibleBundle,
    MalformedMessage,
    TooLarge,
    UnknownSplitPoint,
)
from wire.limits import MAX_MANIFEST_BYTES
from wire.manifest import TensorEntry, bundle_digest, dump_manifest, load_manifest
from wire.preprocessing import ImagePreprocessing, Normalize, Rescale
from wire.tensors import DType, TensorSpec


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The sample manifest's JSON after a change."""
    data = json.loads(dump_manifest(make_manifest()))
    change(data)
    return json.dumps(data).encode()


def test_round_trip_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    data = dump_manifest(make_manifest())
    (tmp_path / "manifest.json").write_bytes(data)
    assert load_manifest(data) == load_manifest(tmp_path / "manifest.json") == make_manifest()
    assert dump_manifest(load_manifest(data)) == data


def test_same_manifest_gives_the_same_bytes_and_digest_whatever_the_order() -> None:
    manifest = make_manifest()
    turned = msgspec.structs.replace(manifest, made_with=dict(reversed(manifest.made_with.items())))
    assert bundle_digest(dump_manifest(turned)) == bundle_digest(dump_manifest(manifest))


def test_tensor_entry_is_a_spec() -> None:
    spec = TensorSpec("features", DType.BFLOAT16, (1, 4))
    assert TensorEntry.of(spec).spec() == spec


def test_preprocessing_digest_depends_on_values_not_on_their_python_type() -> None:
    as_int = ImagePreprocessing([Rescale(1), Normalize([0], [1])])
    as_float = ImagePreprocessing([Rescale(1.0), Normalize([0.0], [1.0])])
    assert as_int.digest() == as_float.digest() != PREPROCESSING.digest()
    assert ImagePreprocessing(PREPROCESSING.steps[::-1]).digest() != PREPROCESSING.digest()


def test_chain_and_split_point_are_found() -> None:
    manifest = make_manifest()
    assert manifest.chain("image") is manifest.chain("image", "32x32")
    assert manifest.split_point("image", 1).specs()[1] == TensorSpec("mask", DType.BOOL, (1, 16))
    assert manifest.chain("image").codec(1, "int8:token+zstd") is manifest.chains[0].codecs[1]
    assert manifest.chain("image").codec(1, "raw") is None


def test_chain_must_be_named_where_there_are_several_shapes() -> None:
    two = [make_chain("32x32"), make_chain("64x32")]
    manifest = msgspec.structs.replace(make_manifest(), chains=two)
    assert manifest.chain("image", "64x32") is two[1]
    with pytest.raises(BadInput, match="expected one of 32x32, 64x32"):
        manifest.chain("image")
    with pytest.raises(BadInput, match="'9x9'"):
        manifest.chain("image", "9x9")


def test_boundary_of_a_chain_is_its_split_points_whatever_tiles_are_said() -> None:
    chain = make_chain()
    assert chain.boundary(1) == chain.boundary(1, 3) == chain.split_points[1].specs()


def test_boundary_of_a_tiled_chain_is_that_of_its_tiles_behind_one_another() -> None:
    shape = msgspec.structs.replace(make_chain().input_shape, is_tiled=True)
    chain = msgspec.structs.replace(make_chain(), input_shape=shape)
    features, mask = chain.boundary(1, 3)
    assert features == TensorSpec("features", DType.FLOAT32, (3, 1, 16, 8))
    assert mask == TensorSpec("mask", DType.BOOL, (3, 1, 16))
    assert chain.split_points[1].specs()[0].shape == (1, 16, 8), "what the manifest says is of one tile"
    with pytest.raises(TooLarge, match="takes over"):
        chain.boundary(0, 10**6)


def test_missing_modality_says_which_there_are() -> None:
    with pytest.raises(BadInput, match="takes no audio; it takes image"):
        make_manifest().chain("audio")


@pytest.mark.parametrize("index", [3, -1, 4096])
def test_unknown_split_point(index: int) -> None:
    with pytest.raises(UnknownSplitPoint, match="expected 0 to 2"):
        make_manifest().split_point("image", index)


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("unknown field", lambda m: m.update(extra=1), MalformedMessage),
        ("unknown inner field", lambda m: m["chains"][0]["stages"][0].update(extra=1), MalformedMessage),
        ("missing field", lambda m: m.pop("probe"), MalformedMessage),
        ("wrong type", lambda m: m.update(model=3), MalformedMessage),
        ("string for a number", lambda m: m["chains"][0]["stages"][0].update(index="0"), MalformedMessage),
        ("other version", lambda m: m.update(format_version=3), IncompatibleBundle),
        ("version of another type", lambda m: m.update(format_version="1"), MalformedMessage),
        (
            "digest mismatch",
            lambda m: m["chains"][0].update(preprocessing_digest="00" * 32),
            IncompatibleBundle,
        ),
        ("digest with newline", lambda m: m.update(weights_digest="ab" * 32 + "\n"), MalformedMessage),
        ("digest in capitals", lambda m: m.update(weights_digest="AB" * 32), MalformedMessage),
        (
            "unknown step",
            lambda m: m["chains"][0]["preprocessing"]["steps"][0].update(op="eval"),
            MalformedMessage,
        ),
        ("unknown modality", lambda m: m["chains"][0].update(modality="smell"), MalformedMessage),
        ("stage missing", lambda m: m["chains"][0]["stages"].pop(), MalformedMessage),
        ("gap in indices", lambda m: m["chains"][0]["stages"][1].update(index=2), MalformedMessage),
        ("raw_bytes", lambda m: m["chains"][0]["split_points"][0].update(raw_bytes=1), MalformedMessage),
        ("codec past the end", lambda m: m["chains"][0]["codecs"][0].update(split_point=3), MalformedMessage),
        ("codec name", lambda m: m["chains"][0]["codecs"][0].update(codec="../raw"), MalformedMessage),
        ("faithfulness", lambda m: m["chains"][0]["codecs"][0].update(faithfulness=-1), MalformedMessage),
        ("unknown dtype", lambda m: tensor(m).update(dtype="object"), MalformedMessage),
        ("rank", lambda m: tensor(m).update(shape=[1] * 9), MalformedMessage),
        ("negative dim", lambda m: tensor(m).update(shape=[-1]), MalformedMessage),
        ("shape overflow", lambda m: tensor(m).update(shape=[2**40, 2**40]), TooLarge),
        ("two chains alike", lambda m: m["chains"].append(m["chains"][0]), MalformedMessage),
        ("file twice", lambda m: m["files"].append(m["files"][0]), MalformedMessage),
        ("stage not listed", lambda m: m["files"].pop(0), MalformedMessage),
        ("probe not listed", lambda m: m["files"].pop(2), MalformedMessage),
        ("path traversal", lambda m: m["files"][0].update(path="../x"), MalformedMessage),
        ("default arm", lambda m: m["chains"][0]["default_arm"].update(split_point=9), MalformedMessage),
        ("shape", lambda m: m.update(shape="blob"), MalformedMessage),
        ("probe of no chain", lambda m: m["probe"]["items"][0].update(shape_id="9"), BadInput),
        (
            "input shape",
            lambda m: m["chains"][0]["input_shape"].update(tensors=[tensor(m)]),
            MalformedMessage,
        ),
    ],
)
def test_manifest_that_does_not_fit_is_refused(
    name: str, change: Callable[[dict[str, Any]], object], error: type[CleaveError]
) -> None:
    with pytest.raises(error):
        load_manifest(edited(change))


def tensor(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["chains"][0]["split_points"][1]["tensors"][0]
    return found


def test_error_names_the_place() -> None:
    data = edited(lambda m: m["chains"][0]["stages"][1].update(extra=1))
    with pytest.raises(MalformedMessage, match=r"unknown field `extra`.*\$\.chains\[0\]\.stages\[1\]"):
        load_manifest(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"format_version": 2}',
        b'{"format_version": 2, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x":' * 100_000,
        b'{"format_version": ' + b"1" * 5000 + b"}",
    ],
)
def test_garbage_and_deep_nesting_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not valid"):
        load_manifest(data)


def test_huge_manifest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(TooLarge, match=str(MAX_MANIFEST_BYTES)):
        load_manifest(path)
    with pytest.raises(TooLarge):
        load_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


def test_missing_manifest_asks_whether_it_is_a_bundle(tmp_path: Path) -> None:
    for path in (tmp_path / "manifest.json", tmp_path):
        with pytest.raises(BadInput, match="is it a bundle"):
            load_manifest(path)


@pytest.mark.parametrize("faithfulness", [float("nan"), float("inf"), -0.5])
def test_manifest_that_could_not_be_read_is_not_written(faithfulness: float) -> None:
    chain = make_chain()
    entry = msgspec.structs.replace(chain.codecs[0], faithfulness=faithfulness)
    chain = msgspec.structs.replace(chain, codecs=[entry])
    with pytest.raises(MalformedMessage):
        dump_manifest(msgspec.structs.replace(make_manifest(), chains=[chain]))
