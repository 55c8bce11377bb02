"""What one release wrote, this one reads: tests/golden/wire."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format

from tests.golden.wire.make import CODECS, HERE, MESSAGES, codec_cases, covered_fields, message_classes
from wire.codecs import find_codec
from wire.errors import IncompatibleBundle
from wire.keys import feature_key, input_key
from wire.manifest import bundle_digest, dump_manifest, load_manifest
from wire.tensors import DType, TensorSpec


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*.binpb")), ids=lambda path: path.stem)
def test_message_decodes_to_its_text(path: Path) -> None:
    message_class = message_classes()[path.name.split(".")[0]]
    expected = text_format.Parse(path.with_suffix(".txtpb").read_text("utf-8"), message_class())
    assert message_class.FromString(path.read_bytes()) == expected


@pytest.mark.parametrize("name", message_classes())
def test_every_field_of_every_message_has_golden_bytes(name: str) -> None:
    fields = {field.name for field in message_classes()[name].DESCRIPTOR.fields}
    assert list(MESSAGES.glob(f"{name}.*.binpb")), "run python -m tests.golden.wire.make"
    assert fields == covered_fields(name), "run python -m tests.golden.wire.make"


@pytest.mark.parametrize("path", sorted(CODECS.glob("*.json")), ids=lambda path: path.stem)
def test_coded_tensor_decodes_bit_for_bit(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    spec = TensorSpec("golden", DType.parse(case["dtype"]), tuple(case["shape"]))
    codec = find_codec(case["codec_id"], case["setting"])
    payload = bytes.fromhex(case["payload_hex"])
    assert len(payload) <= codec.max_payload_bytes(spec)
    assert codec.decode_tensor(memoryview(payload), spec).tobytes().hex() == case["decoded_hex"]


def test_every_codec_has_golden_bytes() -> None:
    missing = [path.name for path, _, _ in codec_cases() if not path.exists()]
    assert missing == [], "run python -m tests.golden.wire.make"


def test_manifest_of_format_2_loads_and_is_written_again_with_the_same_bytes() -> None:
    data = (HERE / "manifest.2.json").read_bytes()
    assert dump_manifest(load_manifest(data)) == data
    assert bundle_digest(data) == "6765194930067c4e97fcde3523d7fd7c45add9b26ff46aff22f2a8090cb704a9"


def test_manifest_of_format_1_is_refused_with_both_versions() -> None:
    with pytest.raises(IncompatibleBundle, match="has format version 1; this program reads 2"):
        load_manifest((HERE / "manifest.1.json").read_bytes())


def test_keys_stay_the_same() -> None:
    assert input_key(b"picture", "cd" * 32).hex() == (
        "c0151cae438395f2e824f478ed1242d018e637fb2cb802efe14100eec7b36bd4"
    )
    key = feature_key(
        b"payload",
        bundle_digest="ab" * 32,
        modality="image",
        shape_id="32x32",
        split_point=1,
        codec_id="int8+zstd",
        setting="token",
        payload_sizes=[4, 3],
    )
    assert key.hex() == "7fc2454a9072df45e3a2ab61a11bb5f95a00fa52d14c3a5294270885d720fb88"
