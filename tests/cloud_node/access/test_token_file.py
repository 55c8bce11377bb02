"""The tenants' file, changed by a program: tokens come and go, and what a person wrote stays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloud_node.access.token_file import add_token, list_tokens, revoke_token
from cloud_node.access.tokens import hash_token, parse_tokens
from tests.kit.tenants import token_entry
from wire.errors import BadInput

WRITTEN = """\
# mine
[tenant.acme]
share = 2.0  # twice

[[ token ]]
sha256 = "{digest}"  # the old camera
tenant = "acme"

[tenant.other]
streams = 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def test_a_new_token_holds_and_only_its_hash_is_kept(path: Path) -> None:
    token = add_token(path, "acme", None)
    assert token not in path.read_text()
    assert parse_tokens(path.read_text()).of_token(token, 0.0).name == "acme"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_an_end_is_kept(path: Path) -> None:
    add_token(path, "acme", datetime(2027, 1, 15, 8, tzinfo=UTC))
    (known,) = list_tokens(path)
    assert known.expires_s == 1_800_000_000


def test_what_a_person_wrote_stays_as_it_is(path: Path) -> None:
    path.write_text(WRITTEN.format(digest="ab" * 32))
    path.chmod(0o640)
    token = add_token(path, "acme", None)
    added = path.read_text()
    assert added.startswith(WRITTEN.format(digest="ab" * 32))
    revoke_token(path, hash_token(token).hex()[:12])
    assert path.read_text().rstrip("\n") == WRITTEN.format(digest="ab" * 32).rstrip("\n")
    assert path.stat().st_mode & 0o777 == 0o640
    assert revoke_token(path, "ab" * 6).tenant == "acme"
    assert path.read_text() == "# mine\n[tenant.acme]\nshare = 2.0  # twice\n\n[tenant.other]\nstreams = 3\n"


def test_one_of_several_tokens_is_revoked_and_the_others_hold(path: Path) -> None:
    tokens = [add_token(path, "acme", None) for _ in range(3)]
    revoke_token(path, hash_token(tokens[1]).hex()[:12])
    left = {one.digest for one in list_tokens(path)}
    assert left == {hash_token(tokens[0]), hash_token(tokens[2])}


@pytest.mark.parametrize("token_id", ["", "a", "abab", "ffffffffffff", "tenant = "])
def test_revoking_names_exactly_one(path: Path, token_id: str) -> None:
    path.write_text("".join(f'[[token]]\ntenant = "a"\nsha256 = "abab{n:060x}"\n' for n in range(2)))
    before = path.read_text()
    with pytest.raises(BadInput, match="tokens in"):
        revoke_token(path, token_id)
    assert path.read_text() == before


def test_a_token_in_an_unforeseen_shape_is_left_to_its_writer(path: Path) -> None:
    path.write_text(f'token = [{{ tenant = "acme", sha256 = "{"ab" * 32}" }}]\n')
    with pytest.raises(BadInput, match="by hand"):
        revoke_token(path, "ab" * 6)
    assert len(list_tokens(path)) == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["[[token]", token_entry("acme", "x") * 2])
def test_a_broken_file_is_not_written_to(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(BadInput):
        add_token(path, "acme", None)
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_tenant_that_cannot_be_named_so_gets_no_token(path: Path) -> None:
    with pytest.raises(BadInput, match="no tenant's name"):
        add_token(path, 'acme"\nmetrics = true', None)
    assert not path.exists()


def test_two_changes_at_once_lose_nothing(path: Path) -> None:
    add_token(path, "acme", None)
    (path.parent / ".tokens.toml.new").touch()
    with pytest.raises(BadInput, match="another `cleave token` is at work"):
        add_token(path, "acme", None)
    assert (path.parent / ".tokens.toml.new").exists()


def test_a_link_is_written_through(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    add_token(kept / "tokens.toml", "acme", None)
    path.symlink_to(kept / "tokens.toml")
    add_token(path, "acme", None)
    assert path.is_symlink()
    assert len(list_tokens(kept / "tokens.toml")) == 2
