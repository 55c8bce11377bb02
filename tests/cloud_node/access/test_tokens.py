"""The file of tenants and tokens: read strictly, secrets as hashes, read again when it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloud_node.access.callers import Callers
from cloud_node.access.entrance import watch_tokens
from cloud_node.access.identity import Identity
from cloud_node.access.reloading import Reloaded
from cloud_node.access.tokens import TenantTable, hash_token, make_token, parse_tokens
from cloud_node.asked.tenants import Tenant, TenantLimits
from tests.kit.tenants import TokenFile, tenant_entry, token_entry
from wire.errors import BadInput, Denied

NOW_S = 1_800_000_000.0


def header(token: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "test"), ("authorization", f"Bearer {token}")]


def watched(path: Path) -> Reloaded[TenantTable]:
    made = watch_tokens(Identity(tokens=path))
    assert made is not None
    return made


def test_tokens_are_long_and_random_and_found_by_their_hash_alone() -> None:
    tokens = [make_token() for _ in range(100)]
    assert len(set(tokens)) == 100
    assert all(len(token.removeprefix("cleave_")) == 43 for token in tokens)  # 256 bits in base64
    text = token_entry("acme", tokens[0])
    assert tokens[0] not in text
    assert parse_tokens(text).of_token(tokens[0], NOW_S) == Tenant("acme")


def test_everything_of_a_tenant_is_read() -> None:
    fields = {
        "share": 2.5, "metrics": True, "streams": 3, "requests_per_s": 4.5, "bytes_per_s": 5, "tokens_per_s": 6,
        "index_items": 7,
    }  # fmt: skip
    found = parse_tokens(tenant_entry("acme", **fields)).of_name("acme")
    assert found is not None
    assert (found.share, found.sees_metrics) == (2.5, True)
    assert found.limits == TenantLimits(3, 4.5, 5, 6, 7)


def test_several_tokens_of_a_tenant_hold_at_once_until_they_expire() -> None:
    old, new = make_token(), make_token()
    # NOW_S is 2027-01-15T08:00:00Z.
    table = parse_tokens(token_entry("acme", old, expires="2027-01-15T08:00:01Z") + token_entry("acme", new))
    assert table.of_token(old, NOW_S) == table.of_token(new, NOW_S)
    with pytest.raises(Denied, match="has expired"):
        table.of_token(old, NOW_S + 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tenant = [", "no list of tenants and tokens"),
        ("[tenant.acme]\nshares = 2", "unknown field `shares`"),
        ("[tenant.acme]\nshare = 0", "> 0"),
        ("[tenant.acme]\nstreams = -1", ">= 0"),
        ("[tenant.acme]\nrequests_per_s = nan", ">= 0"),
        ("[tenant.Acme]", "'Acme' is no tenant's name"),
        ('[tenant."a/b"]', "'a/b' is no tenant's name"),
        ('[tenant.""]', "'' is no tenant's name"),
        ('[[token]]\ntenant = "acme"\nsha256 = "abc"', "matching regex"),
        ('[[token]]\ntenant = "acme"', "required field `sha256`"),
        (token_entry("acme", "x", expires="2027-01-15T08:00:00"), "timezone"),
        (token_entry("acme", "x") + token_entry("other", "x"), "lists one token twice"),
        ("a = " + "[" * 5000, "no list of tenants and tokens"),
    ],
)
def test_a_file_that_is_wrong_anywhere_is_refused_whole(text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        parse_tokens(text)


@pytest.mark.parametrize(
    "token", ["", "hunter2", "cleave_", "cleave_" + "a" * 43, "ü" * 50, "cleave_" + "a" * 10_000]
)
def test_what_is_no_token_of_this_cloud_is_denied(token: str) -> None:
    table = parse_tokens(token_entry("acme", make_token()))
    with pytest.raises(Denied, match="none of this cloud's"):
        table.of_token(token, NOW_S)


def test_a_word_that_somebody_thought_of_is_no_token_even_where_it_is_listed() -> None:
    """A plain SHA-256 at rest protects random bits, and nothing that can be guessed."""
    table = parse_tokens(token_entry("acme", "hunter2"))
    assert hash_token("hunter2") in table.tokens
    with pytest.raises(Denied):
        table.of_token("hunter2", NOW_S)


def test_a_new_file_holds_at_once_and_a_revoked_token_not_any_more(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.toml", acme={}, other={})
    table = watched(file.path)
    callers = Callers(lambda: table.value)
    caller = callers.identify(header(file.tokens["acme"]), {})
    assert not table.refresh()
    file.write(other={"share": 3})
    assert table.refresh()
    with pytest.raises(Denied):
        caller.tenant()  # of a stream that is open
    with pytest.raises(Denied):
        callers.identify(header(file.tokens["acme"]), {})
    assert callers.identify(header(file.tokens["other"]), {}).tenant().share == 3


@pytest.mark.parametrize("change", ["broken", "gone", "too large", "binary"])
def test_a_broken_file_leaves_the_old_one_in_force_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    file = TokenFile(tmp_path / "tokens.toml", acme={})
    table = watched(file.path)
    match change:
        case "broken":
            file.path.write_text("[[token]")
        case "gone":
            file.path.unlink()
        case "too large":
            file.path.write_text("#" * (5 << 20))
        case "binary":
            file.path.write_bytes(b"\xff\xfe")
    for _ in range(3):
        assert not table.refresh()
    assert table.value.of_token(file.tokens["acme"], NOW_S) == Tenant("acme")
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "cannot be used, so what it held before still holds" in record.getMessage()
    file.write(acme={"share": 2})
    assert table.refresh()


def test_a_mounted_secret_is_read_again_when_its_link_is_turned(tmp_path: Path) -> None:
    first = TokenFile(tmp_path / "tokens-1", acme={})
    TokenFile(tmp_path / "tokens-2", other={})
    os.utime(tmp_path / "tokens-2", ns=(first.path.stat().st_atime_ns, first.path.stat().st_mtime_ns))
    link = tmp_path / "tokens.toml"
    link.symlink_to("tokens-1")
    table = watched(link)
    link.unlink()
    link.symlink_to("tokens-2")
    assert table.refresh()
    assert list(table.value.tenants) == ["other"]


@pytest.mark.parametrize("text", ["[[token]", None])
def test_a_cloud_does_not_start_with_a_file_that_it_cannot_use(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "tokens.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=r"tokens\.toml"):
        watched(path)


TABLE = parse_tokens(tenant_entry("acme") + tenant_entry("other"))


@pytest.mark.parametrize(
    ("names", "alternatives", "tenant"),
    [
        (b"acme", [], "acme"),
        (b"camera 7", [b"acme"], "acme"),
        (b"acme", [b"acme", b"camera-7.acme.example"], "acme"),
        (b"ACME", [], None),
        (b"nobody", [], None),
        (b"acme", [b"other"], None),
    ],
)
def test_a_certificate_names_one_listed_tenant(
    names: bytes, alternatives: list[bytes], tenant: str | None
) -> None:
    callers = Callers(lambda: TABLE)
    certificate = {"x509_common_name": [names], "peer_dns": alternatives}
    if tenant is None:
        with pytest.raises(Denied):
            callers.identify([], certificate)
        assert callers.denied == {("credentials",): 1}
    else:
        assert callers.identify([], certificate).tenant() == Tenant(tenant)


def test_without_a_file_a_certificate_names_its_tenant_itself() -> None:
    callers = Callers(None)
    assert callers.identify([], {"x509_common_name": [b"acme"]}).tenant() == Tenant("acme")
    with pytest.raises(Denied, match="names no tenant"):
        callers.identify([], {"x509_common_name": [b"A name with spaces"]})


def test_token_and_certificate_must_be_of_one_tenant() -> None:
    token = make_token()
    table = parse_tokens(token_entry("acme", token) + tenant_entry("other"))
    callers = Callers(lambda: table)
    device = {"x509_common_name": [b"camera-7"]}  # no tenant: it only opens the connection
    assert callers.identify(header(token), device).tenant() == Tenant("acme")
    with pytest.raises(Denied, match="one tenant and the certificate of another"):
        callers.identify(header(token), {"x509_common_name": [b"other"]})


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ([], "asks who calls; give a token"),
        ([("authorization", "Basic YTpi")], "no bearer token"),
        ([("authorization", b"\xff\xfe")], "no bearer token"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "several tokens"),
    ],
)
def test_calls_without_one_token_are_denied(metadata: list[tuple[str, str | bytes]], sentence: str) -> None:
    with pytest.raises(Denied, match=sentence):
        Callers(lambda: TABLE).identify(metadata, {})
