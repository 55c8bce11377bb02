"""A real edge against clouds whose bundle changes, is signed, forged, or stripped of its signature."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cleave import BundleTrust, EdgeNode
from cloud_node.ready import Ready
from edge_node.bundle_check import BundleCheck
from edge_node.known_bundles import KnownBundles
from edge_node.trust import Offered
from tests.kit.bundle_copies import digest_of, rewritten, signed, trust_in
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, cloud_thread_of, served_from, settle
from tests.kit.pictures import textured
from wire.errors import BadInput, Denied, MalformedMessage
from wire.signature import MAX_SIGNATURE_BYTES, SIGNATURE_NAME
from wire.v1 import inference_pb2 as pb

PICTURE = textured(60, 40)
OURS, NEXT, FOREIGN = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3))


def cloud_with(bundle: Path, address: str = "127.0.0.1:0") -> AbstractContextManager[CloudThread]:
    return cloud_thread(served_from(bundle), bundle, FakeRunner(), listen=address)


def asked(address: str, kept: Path, trust: BundleTrust | None = None, model: str | None = None) -> str:
    with EdgeNode(address, bundles=kept, trust=trust) as edge:
        return edge.ask("hi", PICTURE, split=2, model=model).text()


def cloud_of_names(address: str, **bundles: Path) -> AbstractContextManager[CloudThread]:
    """A cloud that serves these bundles under these names, in this order."""
    models = [
        Ready(replace(served_from(bundle), name=name), FakeRunner(), bundle)
        for name, bundle in bundles.items()
    ]
    return cloud_thread_of(models, listen=address)


def met(tmp_path: Path, old: Path, trust: BundleTrust | None = None) -> tuple[str, Path]:
    """The address of a cloud that served `old` to an edge, and what that edge keeps."""
    kept = tmp_path / "kept"
    with cloud_with(old) as node:
        assert asked(node.address, kept, trust) == "hi "
        return node.address, kept


def test_first_bundle_is_remembered_and_another_is_denied_before_anything_of_it_is_fetched(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    other = rewritten(tiny_bundle, tmp_path / "other")
    address, kept = met(tmp_path, tiny_bundle)
    (pinned,) = KnownBundles(kept).read()
    assert (pinned.cloud, pinned.model, pinned.digest) == (address, "tiny", digest_of(tiny_bundle))
    assert pinned.trusted_by == "first use"
    with cloud_with(other, address) as node:
        with pytest.raises(Denied, match=f"cleave trust accept {address} tiny {digest_of(other)}"):
            asked(address, kept)
        assert not (kept / digest_of(other)).exists()
        node.require_idle()
        assert asked(address, kept, BundleTrust.of(accepted=[digest_of(other)])) == "hi "
        assert asked(address, kept) == "hi "  # what was accepted once is known
    with cloud_with(tiny_bundle, address):
        assert asked(address, kept) == "hi "  # and so is what was there before


def test_cloud_that_renames_its_model_gets_no_second_first_use(tmp_path: Path, tiny_bundle: Path) -> None:
    other = rewritten(tiny_bundle, tmp_path / "other")
    address, kept = met(tmp_path, tiny_bundle)
    with cloud_of_names(address, renamed=other):
        with pytest.raises(Denied, match=f"cleave trust accept {address} renamed {digest_of(other)}"):
            asked(address, kept)
        assert not (kept / digest_of(other)).exists()
        assert asked(address, kept, model="renamed") == "hi "


def test_model_that_is_known_is_asked_where_none_is_named_whatever_else_the_cloud_lists_first(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    other = rewritten(tiny_bundle, tmp_path / "other")
    address, kept = met(tmp_path, tiny_bundle)
    with cloud_of_names(address, first=other, tiny=tiny_bundle):
        assert asked(address, kept) == "hi "
    assert [known.model for known in KnownBundles(kept).read()] == ["tiny"]


def test_other_models_and_other_clouds_have_firsts_of_their_own(tmp_path: Path, tiny_bundle: Path) -> None:
    other = rewritten(tiny_bundle, tmp_path / "other")
    with cloud_with(tiny_bundle) as first, cloud_with(other) as second:
        assert asked(first.address, tmp_path / "kept") == "hi "
        assert asked(second.address, tmp_path / "kept") == "hi "
    assert len(KnownBundles(tmp_path / "kept").read()) == 2


def test_bundle_that_does_not_come_whole_is_not_remembered(tmp_path: Path, tiny_bundle: Path) -> None:
    broken = rewritten(tiny_bundle, tmp_path / "broken")
    served = served_from(broken)
    (broken / "manifest.json").write_bytes((tiny_bundle / "manifest.json").read_bytes())
    with cloud_thread(served, broken, FakeRunner()) as node, pytest.raises(Exception, match="SHA-256"):
        asked(node.address, tmp_path / "kept")
    assert KnownBundles(tmp_path / "kept").read() == ()


def test_without_pins_nothing_is_remembered(tmp_path: Path, tiny_bundle: Path) -> None:
    with cloud_with(tiny_bundle) as node:
        assert asked(node.address, tmp_path / "kept", BundleTrust(pins=False)) == "hi "
    assert not (tmp_path / "kept" / "known_bundles.json").exists()


def test_damaged_memory_of_bundles_stops_the_edge_and_a_key_does_without_it(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    bundle = signed(tiny_bundle, tmp_path / "signed", OURS)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "known_bundles.json").write_text("{")
    with cloud_with(bundle) as node:
        with pytest.raises(BadInput, match="not valid"):
            asked(node.address, tmp_path / "kept")
        assert asked(node.address, tmp_path / "kept", trust_in(OURS)) == "hi "


def test_signed_bundles_follow_one_another_without_asking_and_a_step_back_is_told(
    tmp_path: Path, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = signed(tiny_bundle, tmp_path / "old", OURS)
    new = signed(rewritten(tiny_bundle, tmp_path / "other"), tmp_path / "new", OURS, NEXT)
    address, kept = met(tmp_path, old, trust_in(OURS))
    with caplog.at_level(logging.WARNING, "edge_node"):
        with cloud_with(new, address):
            assert asked(address, kept, trust_in(OURS, NEXT)) == "hi "
            assert asked(address, kept, trust_in(NEXT)) == "hi "
        assert len(caplog.messages) == 1
        assert "trusted by key" in caplog.messages[0]
        with cloud_with(old, address):
            assert asked(address, kept, trust_in(OURS)) == "hi "
        assert "as once before" in caplog.messages[1]
        with cloud_with(old, address), pytest.raises(Denied, match="key"):
            asked(address, kept, trust_in(NEXT))


@pytest.mark.parametrize("attack", ["unsigned", "wrong key", "tampered manifest", "stripped", "garbage"])
def test_with_a_key_what_it_did_not_sign_is_denied_and_nothing_of_it_is_fetched(
    tmp_path: Path, tiny_bundle: Path, attack: str
) -> None:
    bundle = signed(tiny_bundle, tmp_path / "bundle", FOREIGN if attack == "wrong key" else OURS)
    signature = bundle / SIGNATURE_NAME
    match attack:
        case "unsigned" | "stripped":
            signature.unlink()
        case "tampered manifest":
            manifest = bundle / "manifest.json"
            manifest.write_bytes(manifest.read_bytes().replace(b'"tolerance": 0.001', b'"tolerance": 0.999'))
            assert digest_of(bundle) != digest_of(tiny_bundle)
        case "garbage":
            signature.write_bytes(b"\xff" * MAX_SIGNATURE_BYTES)
    with cloud_with(bundle) as node, pytest.raises(Denied, match="signature"):
        asked(node.address, tmp_path / "kept", trust_in(OURS))
    assert not (tmp_path / "kept" / digest_of(bundle)).exists()
    assert KnownBundles(tmp_path / "kept").read() == ()


def test_bundle_that_was_verified_once_needs_its_signature_no_more_from_the_cloud(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    bundle = signed(tiny_bundle, tmp_path / "bundle", OURS)
    with cloud_with(bundle) as node:
        assert asked(node.address, tmp_path / "kept", trust_in(OURS)) == "hi "
        (bundle / SIGNATURE_NAME).unlink()
        assert asked(node.address, tmp_path / "kept", trust_in(OURS)) == "hi "
        # What is kept is verified again: another key makes it ask the cloud anew.
        with pytest.raises(Denied, match="not signed"):
            asked(node.address, tmp_path / "kept", trust_in(NEXT))


def test_bundle_may_be_signed_while_it_is_served(tmp_path: Path, tiny_bundle: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    with cloud_with(bundle) as node:
        with pytest.raises(Denied, match="not signed"):
            asked(node.address, tmp_path / "kept", trust_in(OURS))
        signed(tiny_bundle, tmp_path / "signed", OURS)
        shutil.copy(tmp_path / "signed" / SIGNATURE_NAME, bundle)
        assert asked(node.address, tmp_path / "kept", trust_in(OURS)) == "hi "


def test_signature_without_end_is_denied_at_its_bound(tmp_path: Path) -> None:
    received = 0

    async def endless(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        nonlocal received
        while True:
            yield pb.BundlePart(path=path, offset=received, data=bytes(1024))
            received += 1024

    check = BundleCheck(tmp_path, trust_in(OURS))
    with pytest.raises(Denied, match="at most"):
        settle(check.require(Offered("c:1", "tiny", "ab" * 32), endless))
    assert received <= MAX_SIGNATURE_BYTES


def test_signature_of_empty_parts_without_end_is_denied(tmp_path: Path) -> None:
    async def endless(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        for _ in range(10_000):
            yield pb.BundlePart(path=path)

    check = BundleCheck(tmp_path, trust_in(OURS))
    with pytest.raises(Denied, match="and 0 bytes after 0"):
        settle(check.require(Offered("c:1", "tiny", "ab" * 32), endless))


def test_name_that_moves_the_cursor_is_refused_in_one_printable_sentence(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    with (
        cloud_of_names("127.0.0.1:0", **{"tiny\x1b[2J\nERROR": tiny_bundle}) as node,
        pytest.raises(MalformedMessage, match="printable") as raised,
    ):
        asked(node.address, tmp_path / "kept")
    assert str(raised.value).isprintable()


def test_of_two_that_meet_different_first_bundles_at_once_one_is_denied(tmp_path: Path) -> None:
    async def unused(digest: str, path: str, offset: int) -> AsyncGenerator[pb.BundlePart, None]:
        raise AssertionError
        yield pb.BundlePart()

    async def run() -> list[BaseException | None]:
        offers = [Offered("c:1", "tiny", digit * 64) for digit in "ab"]
        checks = [BundleCheck(tmp_path, BundleTrust()) for _ in offers]
        for check, offered in zip(checks, offers, strict=True):
            await check.require(offered, unused)
        remembering = [check.remember(offered, None) for check, offered in zip(checks, offers, strict=True)]
        return await asyncio.gather(*remembering, return_exceptions=True)

    results = settle(run())
    assert sorted(type(result).__name__ for result in results) == ["Denied", "NoneType"]
    (known,) = KnownBundles(tmp_path).read()
    assert known.digest[0] == "ab"[results.index(None)]
