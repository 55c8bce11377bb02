"""Tenants from outside: tokens by command, a real cloud with TLS, and real edges that get nothing of each other's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cleave import Credentials, EdgeNode
from cleave.processes import cloud_process
from cloud_node.access.token_file import add_token
from tests.kit.certificates import Authority
from tests.kit.commands import cleave, cleave_each
from wire.errors import Denied

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Guarded:
    """A cloud process, and what opens it."""

    address: str
    ca: Path
    tokens: Path

    def edge(self, token: str, bundles: Path) -> EdgeNode:
        return EdgeNode(self.address, bundles=bundles, credentials=Credentials(token=token, ca=self.ca))


@pytest.fixture(scope="module")
def guarded(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    own = authority.pair("cloud")
    tokens = folder / "tokens.toml"
    tokens.write_text("[tenant.operator]\nmetrics = true\n")
    options = ("--tokens", tokens, "--tls-cert", own.cert, "--tls-key", own.key)
    with cloud_process(str(tiny_checkpoint), tiny_bundle, *map(str, options)) as (address, _):
        yield Guarded(address, authority.cert, tokens)


def wait_for(guarded: Guarded, token: str, bundles: Path) -> None:
    """Until the cloud has read its file again."""
    with guarded.edge(token, bundles) as edge:
        while True:
            try:
                edge.describe()
            except Denied:
                continue
            return


def prefix_hits(exposition: str) -> float:
    found = re.search(r"^cleave_prefix_hits_total\{.*\} (\S+)$", exposition, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_two_tenants_get_the_same_answer_and_nothing_of_each_other(
    guarded: Guarded, cache: Path, pictures: list[Path]
) -> None:
    tokens = {name: add_token(guarded.tokens, name, None) for name in ("acme", "other", "operator")}
    wait_for(guarded, tokens["operator"], cache)
    with (
        guarded.edge(tokens["operator"], cache) as operator,
        guarded.edge(tokens["acme"], cache) as acme,
        guarded.edge(tokens["other"], cache) as other,
    ):
        asked = {"image": pictures[0], "hash_first": True, "max_new_tokens": 8}
        first = acme.ask("what is this?", **asked)
        first.text()
        hits = prefix_hits(operator.metrics())
        second = other.ask("what is this?", **asked)
        assert second.text() == first.report.text
        assert (first.report.cache, second.report.cache) == ("miss", "miss")
        assert second.report.uploaded_bytes == first.report.uploaded_bytes > 0
        assert prefix_hits(operator.metrics()) == hits
        # To each its own: the answer, and for another question the prompt that was read.
        for edge in (acme, other):
            again = edge.ask("what is this?", **asked)
            assert again.text() == first.report.text
            assert (again.report.cache, again.report.uploaded_bytes) == ("answer", 0)
            edge.ask("what colour?", **asked).text()
        assert prefix_hits(operator.metrics()) == hits + 2
        with pytest.raises(Denied, match="may not see the metrics"):
            acme.metrics()


def test_a_token_is_made_shown_once_used_listed_and_revoked_by_command(
    guarded: Guarded, cache: Path, tmp_path: Path
) -> None:
    made = cleave("token", "new", "camera", "--days", "1", "--file", guarded.tokens, cache=cache)
    assert (made.code, made.err) == (0, "")
    token_file = tmp_path / "camera.token"
    token_file.write_text(made.out)
    token = made.out.strip()
    assert token not in guarded.tokens.read_text()
    wait_for(guarded, token, cache)
    secure = ("--cloud", guarded.address, "--ca", guarded.ca)
    described, top, bare, listed, unsafe = cleave_each(
        [
            ("describe", *secure, "--token-file", token_file, "--json"),
            ("top", *secure, "--token-file", token_file, "--once"),
            ("describe", "--cloud", guarded.address),
            ("token", "list", "--file", guarded.tokens, "--json"),
            ("cloud", "--model", "default", "--listen", "0.0.0.0:0"),
        ],
        cache,
    )
    assert json.loads(described.out)["models"]
    assert "may not see the metrics" in top.require_one_clear_error()
    assert "speaks TLS only" in bare.require_one_clear_error()
    assert "nothing says who may call; give --tokens" in unsafe.require_one_clear_error()
    (own,) = [one for one in json.loads(listed.out)["tokens"] if one["tenant"] == "camera"]
    assert own["expires"] is not None
    revoked = cleave("token", "revoke", own["id"], "--file", guarded.tokens, cache=cache)
    assert revoked.out == f"token {own['id']} of tenant camera is revoked\n"
    with guarded.edge(token, cache) as edge, pytest.raises(Denied):  # noqa: PT012
        while True:
            edge.describe()
