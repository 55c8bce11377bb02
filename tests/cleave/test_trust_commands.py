"""`cleave keygen`, `sign` and `trust`, and the options of `ask`, as a person types them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.kit.bundle_copies import digest_of, rewritten
from tests.kit.clouds import FakeRunner, cloud_thread, served_from
from tests.kit.commands import cleave, cleave_each
from tests.kit.pictures import written

pytestmark = pytest.mark.slow


def test_signed_bundle_is_asked_with_its_key_and_another_is_not(tmp_path: Path, tiny_bundle: Path) -> None:
    bundle, key, cache = rewritten(tiny_bundle, tmp_path / "bundle"), tmp_path / "key.pem", tmp_path / "cache"
    digest = digest_of(bundle)
    public = cleave("keygen", key, cache=cache).out.strip()
    other = json.loads(cleave("keygen", tmp_path / "other.pem", "--json", cache=cache).out)["public_key"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert digest in cleave("sign", bundle, "--key", key, cache=cache).out
    assert digest_of(bundle) == digest
    picture = written(tmp_path / "0.png", 64, 48, seed=0)
    with cloud_thread(served_from(bundle), bundle, FakeRunner()) as node:
        ask = ("ask", "hi", "--cloud", node.address, "--image", picture, "--split", 2, "--bundle-key")
        results = cleave_each([(*ask, public), (*ask, other)], cache)
    assert results[0].out == "hi \n"
    assert "the signature of bundle" in results[1].require_one_clear_error()


def test_changed_bundle_is_asked_once_it_is_accepted_or_the_old_one_forgotten(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    cache, other = tmp_path / "cache", rewritten(tiny_bundle, tmp_path / "other")
    picture = written(tmp_path / "0.png", 64, 48, seed=0)

    def ask(address: str, *options: str) -> tuple[object, ...]:
        return ("ask", "hi", "--cloud", address, "--image", picture, "--split", 2, *options)

    with cloud_thread(served_from(tiny_bundle), tiny_bundle, FakeRunner()) as node:
        address = node.address
        assert cleave(*ask(address), cache=cache).out == "hi \n"
    with cloud_thread(served_from(other), other, FakeRunner(), listen=address):
        sentence = cleave(*ask(address), cache=cache).require_one_clear_error()
        command = sentence.partition("`cleave ")[2].partition("`")[0].split()
        assert command == ["trust", "accept", address, "tiny", digest_of(other)]
        assert "is trusted" in cleave(*command, cache=cache).out
        assert cleave(*ask(address), cache=cache).out == "hi \n"
        listed = json.loads(cleave("trust", "list", "--json", cache=cache).out)["bundles"]
        assert [one["digest"] for one in listed] == [digest_of(tiny_bundle), digest_of(other)]
        assert [one["trusted_by"] for one in listed] == ["first use", "user"]
        assert cleave("trust", "forget", address, "tiny", cache=cache).out == "2 forgotten\n"
        again, once_more = cleave_each([ask(address), ("trust", "forget", "nowhere:1")], cache)
        assert again.out == "hi \n"
        assert "no bundle of nowhere:1 is known" in once_more.require_one_clear_error()


def test_what_cannot_be_signed_or_with_what_is_one_clear_error(tmp_path: Path, tiny_bundle: Path) -> None:
    damaged = rewritten(tiny_bundle, tmp_path / "damaged")
    stage = next((damaged / "stages").rglob("*.onnx"))
    stage.write_bytes(stage.read_bytes()[:-1])
    key = tmp_path / "key.pem"
    cleave("keygen", key, cache=tmp_path)
    text = tmp_path / "text"
    text.write_text("no key")
    results = cleave_each(
        [
            ("sign", damaged, "--key", key),
            ("sign", tiny_bundle, "--key", text),
            ("keygen", key),
            ("trust", "accept", "c:1", "tiny", "abc"),
        ],
        tmp_path,
    )
    expected = ("bytes; expected", "no private key as PEM", "give a new file", "64 hex digits")
    for result, says in zip(results, expected, strict=True):
        assert says in result.require_one_clear_error()
    assert not (damaged / "manifest.sig").exists()
