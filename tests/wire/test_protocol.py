"""Limits, keys, modalities, and the generated stubs."""

from dataclasses import replace
from pathlib import Path

import pytest

from wire import generate
from wire.errors import MalformedMessage
from wire.keys import content_key, feature_key, input_key
from wire.limits import MAX_BUNDLE_PART_BYTES, MAX_MESSAGE_BYTES, Limits, check_request_id, grpc_options
from wire.modality import MODALITIES, modality_from_wire, modality_to_wire
from wire.v1 import inference_pb2 as pb

DIGEST = "ab" * 32


def test_stubs_are_what_the_proto_generates(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    generate.generate(tmp_path)
    written = {path.name: path.read_bytes() for path in (tmp_path / "wire/v1").iterdir()}
    committed = {name: (generate.ROOT / "wire/v1" / name).read_bytes() for name in written}
    assert len(written) == 4
    assert written == committed, "run make proto"


def test_generating_from_a_broken_proto_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc_tools")
    monkeypatch.setattr(generate, "PROTO", "wire/v1/missing.proto")
    with pytest.raises(RuntimeError, match=r"missing\.proto"):
        generate.generate(tmp_path)


def test_limits_survive_the_wire() -> None:
    limits = replace(Limits(), max_new_tokens=7, resume_s=1.5)
    assert Limits.from_wire(pb.Limits.FromString(limits.to_wire().SerializeToString())) == limits


def test_limits_have_every_field_of_the_proto() -> None:
    assert set(Limits.__dataclass_fields__) == {field.name for field in pb.Limits.DESCRIPTOR.fields}


def test_grpc_options_bound_messages_and_let_our_own_pass() -> None:
    options = dict(grpc_options())
    assert options["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES
    assert (
        max(Limits().max_chunk_bytes, Limits().max_inline_bytes, MAX_BUNDLE_PART_BYTES)
        < MAX_MESSAGE_BYTES // 4
    )
    # A server that tolerates fewer pings than the client sends closes the connection.
    assert options["grpc.http2.min_recv_ping_interval_without_data_ms"] < options["grpc.keepalive_time_ms"]


@pytest.mark.parametrize("request_id", ["a", "A-z_09", "x" * 64])
def test_request_id(request_id: str) -> None:
    assert check_request_id(request_id) == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "a\n", "é", "../x"])
def test_request_id_out_of_its_alphabet_is_malformed(request_id: str) -> None:
    with pytest.raises(MalformedMessage, match="request_id"):
        check_request_id(request_id)


def test_modalities_are_those_of_the_proto() -> None:
    assert [modality_from_wire(modality_to_wire(name)) for name in MODALITIES] == list(MODALITIES)
    assert {modality_to_wire(name) for name in MODALITIES} == set(pb.Modality.values()) - {0}
    with pytest.raises(MalformedMessage):
        modality_from_wire(0)


def test_input_key_depends_on_bytes_and_preprocessing() -> None:
    keys = {input_key(b"a", DIGEST), input_key(b"b", DIGEST), input_key(b"a", "cd" * 32)}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}
    assert input_key(memoryview(b"a"), DIGEST) == input_key(b"a", DIGEST)


def test_feature_key_depends_on_everything_that_gives_the_payload_its_meaning() -> None:
    def key(
        payload: bytes = b"abc", digest: str = DIGEST, codec_id: str = "raw", split_point: int = 1
    ) -> bytes:
        return feature_key(
            payload,
            bundle_digest=digest,
            modality="image",
            shape_id="a",
            split_point=split_point,
            codec_id=codec_id,
            setting="",
            payload_sizes=[len(payload)],
        )

    keys = [key(), key(b"abd"), key(digest="cd" * 32), key(codec_id="fp16"), key(split_point=11)]
    assert len(set(keys)) == len(keys)
    assert key() == key()


def test_fields_of_a_key_do_not_run_together() -> None:
    assert content_key("answer", b"ab", b"c") != content_key("answer", b"a", b"bc")
    assert content_key("answer", b"abc") != content_key("answer", b"abc", b"")
    assert content_key("answer", b"abc") != content_key("features", b"abc")
