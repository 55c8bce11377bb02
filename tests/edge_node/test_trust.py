"""Which bundle is trusted, by what was known, accepted, taken back or signed: values in, a reason or Denied out."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edge_node.trust import BundleTrust, Offered, PublicKey, decide, read_public_key
from tests.kit.bundle_copies import trust_in
from wire.errors import BadInput, Denied
from wire.signature import Signature, dump_signatures, key_id, signed_message

NEW, OLD = "ab" * 32, "cd" * 32
OFFERED = Offered("127.0.0.1:50051", "tiny", NEW)
OURS, NEXT, FOREIGN = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3))


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def signature(
    *keys: Ed25519PrivateKey, message: bytes = signed_message(NEW), claims: Ed25519PrivateKey | None = None
) -> bytes:
    return dump_signatures([Signature(key_id(raw(claims or key)), key.sign(message)) for key in keys])


def test_first_bundle_of_a_model_is_trusted_and_the_same_one_again() -> None:
    assert decide(BundleTrust(), OFFERED, [], None) == "first use"
    assert decide(BundleTrust(), OFFERED, [NEW], None) == ""


def test_any_of_the_known_ones_may_be_served() -> None:
    assert decide(BundleTrust(), OFFERED, [NEW, OLD], None) == ""


def test_another_bundle_is_denied_with_what_to_do() -> None:
    with pytest.raises(Denied) as raised:
        decide(BundleTrust(), OFFERED, [OLD], None)
    sentence = str(raised.value)
    assert f"`cleave trust accept 127.0.0.1:50051 tiny {NEW}`" in sentence
    assert OLD[:12] in sentence
    assert "--bundle-key" in sentence


def test_command_in_the_sentence_is_safe_to_copy_whatever_the_model_is_called() -> None:
    with pytest.raises(Denied, match=r"accept \S+ 'a; rm -rf \$HOME' "):
        decide(BundleTrust(), Offered("c:1", "a; rm -rf $HOME", NEW), [OLD], None)
    with pytest.raises(Denied) as raised:
        decide(BundleTrust(), Offered("c:1", "a\x1b[2Jb", NEW), [OLD], None)
    assert "\x1b" not in str(raised.value)


def test_new_name_at_an_address_that_is_known_is_no_first_use_unless_the_user_says_it() -> None:
    with pytest.raises(
        Denied, match="offers 'tiny', of which this device knows no bundle, while it knows 'usual'"
    ) as raised:
        decide(BundleTrust(), OFFERED, [], None, ["usual"])
    assert f"`cleave trust accept 127.0.0.1:50051 tiny {NEW}`" in str(raised.value)
    named = Offered(OFFERED.cloud, OFFERED.model, NEW, is_named=True)
    assert decide(BundleTrust(), named, [], None, ["usual"]) == "first use"
    assert decide(BundleTrust.of(accepted=[NEW]), OFFERED, [], None, ["usual"]) == "user"
    assert decide(trust_in(OURS), OFFERED, [], signature(OURS), ["usual"]).startswith("key ")


def test_signature_does_not_count_where_no_key_is_given() -> None:
    with pytest.raises(Denied):
        decide(BundleTrust(), OFFERED, [OLD], signature(OURS))


def test_digest_that_the_user_accepts_is_trusted() -> None:
    trust = BundleTrust.of(accepted=[NEW])
    assert decide(trust, OFFERED, [OLD], None) == "user"
    assert decide(trust, OFFERED, [OLD, NEW], None) == ""


@pytest.mark.parametrize(
    "trust",
    [BundleTrust(), BundleTrust(accepted=frozenset([NEW])), BundleTrust(keys=(PublicKey(raw(OURS)),))],
)
def test_digest_that_was_taken_back_is_denied_whatever_speaks_for_it(trust: BundleTrust) -> None:
    refusing = BundleTrust(trust.keys, trust.accepted, frozenset([NEW]))
    with pytest.raises(Denied, match="taken back"):
        decide(refusing, OFFERED, [NEW], signature(OURS))


def test_new_bundle_that_a_key_of_ours_signed_is_trusted_without_asking() -> None:
    assert decide(trust_in(OURS), OFFERED, [OLD], signature(OURS)) == f"key {key_id(raw(OURS))}"


def test_either_key_holds_while_keys_are_changed() -> None:
    both = trust_in(OURS, NEXT)
    assert decide(both, OFFERED, [], signature(OURS)).startswith("key")
    assert decide(both, OFFERED, [], signature(NEXT)).startswith("key")
    assert decide(trust_in(NEXT), OFFERED, [], signature(OURS, NEXT)) == f"key {key_id(raw(NEXT))}"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "not signed"),
        (signature(FOREIGN), key_id(raw(FOREIGN))),
        (signature(FOREIGN, claims=OURS), "forged"),
        (signature(OURS, message=signed_message(OLD)), "another bundle"),
        (signature(OURS, message=bytes.fromhex(NEW)), "forged"),
        (b"{}", "not valid"),
        (b" " * 100_000, "at most"),
    ],
    ids=["unsigned", "foreign", "borrowed id", "of another bundle", "bare digest", "no file", "too large"],
)
def test_with_a_key_only_its_signature_of_this_very_bundle_counts(made: bytes | None, says: str) -> None:
    with pytest.raises(Denied, match=says):
        decide(trust_in(OURS), OFFERED, [NEW], made)


def test_every_bit_of_a_signature_counts() -> None:
    good = OURS.sign(signed_message(NEW))
    trust = trust_in(OURS)
    for bit in range(0, 512, 7):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        file = dump_signatures([Signature(key_id(raw(OURS)), bytes(bad))])
        with pytest.raises(Denied):
            decide(trust, OFFERED, [], file)


@pytest.mark.parametrize("make", [lambda key: b64encode(key) + b"\n", lambda key: pem_of(key)])
def test_public_key_is_read_from_a_file(tmp_path: Path, make: object) -> None:
    assert callable(make)
    (tmp_path / "key").write_bytes(make(raw(OURS)))
    assert read_public_key(str(tmp_path / "key")) == read_public_key(tmp_path / "key") == PublicKey(raw(OURS))


def pem_of(key: bytes) -> bytes:
    assert key == raw(OURS)
    return OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_keys_come_from_the_environment_separated_by_spaces() -> None:
    texts = [b64encode(raw(key)).decode() for key in (OURS, NEXT)]
    assert BundleTrust.from_environment({"CLEAVE_BUNDLE_KEY": " ".join(texts)}) == trust_in(OURS, NEXT)
    assert BundleTrust.from_environment({}) == BundleTrust()


def test_what_is_no_key_is_one_clear_error(tmp_path: Path) -> None:
    private = OURS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    other = X25519PrivateKey.generate().public_key()
    (tmp_path / "private").write_bytes(private)
    (tmp_path / "other").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "short").write_text("AAAA")
    for source, says in [
        ("private", "private key, which no device needs"),
        ("other", "no Ed25519 public key"),
        ("short", "no Ed25519 public key"),
        ("missing", "no public key"),
    ]:
        with pytest.raises(BadInput, match=says):
            read_public_key(str(tmp_path / source))


@pytest.mark.parametrize("digest", ["", NEW[:12], NEW.upper(), NEW + "\n", "g" * 64])
def test_only_a_whole_digest_is_accepted(digest: str) -> None:
    with pytest.raises(BadInput, match="64 hex digits"):
        BundleTrust.of(accepted=[digest])
