"""manifest.sig: what is signed never changes its meaning, and what a file says is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from wire.errors import CleaveError, IncompatibleBundle, MalformedMessage, TooLarge
from wire.signature import (
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    Signature,
    dump_signatures,
    key_id,
    load_signatures,
    read_signature,
    signed_message,
)

KEPT = (
    b'{"format_version":1,"algorithm":"ed25519","signatures":[{"key_id":"66687aadf862bd77","signature":"'
    + b"A" * 86
    + b'=="}]}'
)


def test_what_is_signed_is_a_domain_and_the_digests_bytes() -> None:
    assert signed_message("ab" * 32) == b"cleave bundle v1\0" + b"\xab" * 32


def test_key_id_is_the_beginning_of_the_public_keys_hash() -> None:
    assert key_id(bytes(32)) == "66687aadf862bd77"


def test_kept_file_is_read_for_ever() -> None:
    assert load_signatures(KEPT) == [Signature("66687aadf862bd77", bytes(64))]


def test_written_file_is_read_as_it_was() -> None:
    signatures = [Signature(f"{index:016x}", bytes([index] * 64)) for index in range(MAX_SIGNATURES)]
    assert load_signatures(dump_signatures(signatures)) == signatures


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedMessage),
        (b"\xff", MalformedMessage),
        (b"[" * 10_000, MalformedMessage),
        (KEPT.replace(b"1", b"2", 1), MalformedMessage),
        (KEPT.replace(b"ed25519", b"none"), MalformedMessage),
        (KEPT.replace(b'"algorithm"', b'"more":0,"algorithm"'), MalformedMessage),
        (KEPT.replace(b"66687aadf862bd77", b"66687AADF862BD77"), MalformedMessage),
        (KEPT.replace(b"66687aadf862bd77", b"66687aadf862bd77\\n"), MalformedMessage),
        (KEPT.replace(b"AAAA", b"", 1), MalformedMessage),
        (KEPT.replace(b"AAAA", b"....", 1), MalformedMessage),
        (b'{"format_version":1,"algorithm":"ed25519","signatures":[]}', MalformedMessage),
        (KEPT + b" " * MAX_SIGNATURE_BYTES, TooLarge),
    ],
)
def test_what_is_no_signature_file_is_refused(data: bytes, error: type[CleaveError]) -> None:
    with pytest.raises(error):
        load_signatures(data)


def test_more_signatures_than_are_read_are_not_written() -> None:
    with pytest.raises(MalformedMessage):
        dump_signatures([Signature(f"{index:016x}", bytes(64)) for index in range(MAX_SIGNATURES + 1)])


def test_bundle_without_the_file_is_not_signed(tmp_path: Path) -> None:
    assert read_signature(tmp_path) is None


def test_file_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(KEPT)
    (tmp_path / "manifest.sig").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IncompatibleBundle):
        read_signature(tmp_path)


def test_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "manifest.sig").write_bytes(b" " * (MAX_SIGNATURE_BYTES + 1))
    with pytest.raises(TooLarge):
        read_signature(tmp_path)
