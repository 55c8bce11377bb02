"""A device's credentials: a token stays off the open network, and whatever TLS does not like is one sentence."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cleave import EdgeNode
from cloud_node.access import entrance
from cloud_node.access.identity import Identity
from cloud_node.asked.served import Served
from edge_node.credentials import Credentials
from tests.kit.certificates import Authority
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, until
from tests.kit.pictures import written
from tests.kit.tenants import TokenFile
from wire.errors import BadInput, CleaveError, Denied, Unavailable


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.toml", acme={"metrics": True})


@pytest.fixture
def guarded(
    served: Served, tiny_bundle: Path, authority: Authority, tokens: TokenFile
) -> Iterator[CloudThread]:
    """With TLS, and tokens."""
    own = authority.pair("cloud")
    identity = Identity(tls_cert=own.cert, tls_key=own.key, tokens=tokens.path)
    with cloud_thread(served, tiny_bundle, FakeRunner(), identity=identity) as node:
        yield node


def refusal(address: str, credentials: Credentials, kind: type[CleaveError] = Unavailable) -> str:
    """The one sentence that an edge gets there."""
    with (
        EdgeNode(address, credentials=credentials, connect_timeout_s=5.0) as edge,
        pytest.raises(CleaveError) as raised,
    ):
        edge.describe()
    assert type(raised.value) is kind, raised.value
    assert address in str(raised.value) or kind is Denied
    return str(raised.value)


def test_every_call_carries_the_token_over_tls(
    guarded: CloudThread, authority: Authority, tokens: TokenFile, tmp_path: Path
) -> None:
    credentials = Credentials(token=tokens.tokens["acme"], ca=authority.cert)
    picture = written(tmp_path / "p.png", 64, 48, seed=1)
    with EdgeNode(guarded.address, credentials=credentials, bundles=tmp_path / "bundles") as edge:
        assert edge.ask("who asks", image=picture).text().split() == ["who", "asks"]
        assert "cleave_streams_open 1.0" in edge.metrics()


def test_a_certificate_is_looked_at_again_after_a_while_and_an_answer_goes_on_through_that(
    served: Served, tiny_bundle: Path, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "CONNECTION_AGE_S", 0.3)
    monkeypatch.setattr(entrance, "CONNECTION_GRACE_S", 0.1)
    own, device = authority.pair("cloud"), authority.pair("acme")
    identity = Identity(tls_cert=own.cert, tls_key=own.key, client_ca=authority.cert)
    credentials = Credentials(ca=authority.cert, cert=device.cert, key=device.key)
    picture, runner = written(tmp_path / "p.png", 64, 48, seed=1), FakeRunner()
    with (
        cloud_thread(served, tiny_bundle, runner, identity=identity) as node,
        EdgeNode(node.address, credentials=credentials, bundles=tmp_path / "bundles") as edge,
    ):
        answer = edge.ask("one hold two", image=picture)
        texts = iter(answer)
        beginning = next(texts)
        streams = node.server._service._streams
        first = set(streams)
        node.call(until(lambda: not first & streams))
        runner.release.set()
        assert beginning + "".join(texts) == "one hold two "
        assert answer.report.num_resumed >= 1
        assert runner.ran == ["one hold two"]


def test_a_token_file_is_read_at_each_call(
    served: Served, tiny_bundle: Path, tokens: TokenFile, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text("cleave_" + "a" * 43)
    with (
        cloud_thread(served, tiny_bundle, FakeRunner(), identity=Identity(tokens=tokens.path)) as node,
        EdgeNode(node.address, credentials=Credentials(token_file=path)) as edge,
    ):
        with pytest.raises(Denied, match="none of this cloud's"):
            edge.describe()
        path.write_text(tokens.tokens["acme"] + "\n")
        assert edge.describe().models


def test_wrong_tokens_and_none_are_denied(guarded: CloudThread, authority: Authority) -> None:
    assert "asks who calls; give a token" in refusal(guarded.address, Credentials(ca=authority.cert), Denied)
    wrong = Credentials(token="cleave_" + "a" * 43, ca=authority.cert)
    assert "none of this cloud's" in refusal(guarded.address, wrong, Denied)


@pytest.mark.slow
def test_plaintext_against_tls_says_what_to_give(guarded: CloudThread) -> None:
    assert "speaks TLS only; say whose certificate it shows (--ca FILE" in refusal(
        guarded.address, Credentials()
    )


@pytest.mark.slow
def test_tls_against_plaintext_says_that_nothing_was_sent(
    served: Served, tiny_bundle: Path, authority: Authority, tokens: TokenFile
) -> None:
    with cloud_thread(served, tiny_bundle, FakeRunner()) as node:
        told = refusal(node.address, Credentials(token=tokens.tokens["acme"], ca=authority.cert))
    assert "speaks no TLS" in told
    assert "nothing was sent" in told


@pytest.mark.slow
def test_a_certificate_of_another_authority_is_told_apart(guarded: CloudThread, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other")
    told = refusal(guarded.address, Credentials(ca=other.cert))
    assert "did not sign" in told
    assert "--ca" in told
    assert "did not sign" in refusal(guarded.address, Credentials(ca="system"))


@pytest.mark.slow
def test_a_certificate_for_another_name_holds_where_the_name_is_said(
    served: Served, tiny_bundle: Path, authority: Authority
) -> None:
    own = authority.pair("cloud", x509.DNSName("cloud.example"))
    identity = Identity(tls_cert=own.cert, tls_key=own.key)
    with cloud_thread(served, tiny_bundle, FakeRunner(), identity=identity) as node:
        assert "for another name" in refusal(node.address, Credentials(ca=authority.cert))
        named = Credentials(ca=authority.cert, server_name="cloud.example")
        with EdgeNode(node.address, credentials=named) as edge:
            assert edge.describe().models


@pytest.mark.slow
def test_a_certificate_that_has_expired_is_told_apart(authority: Authority) -> None:
    with expired_server(authority) as address:
        assert "has expired" in refusal(address, Credentials(ca=authority.cert))


@contextlib.contextmanager
def expired_server(authority: Authority) -> Iterator[str]:
    """A cloud refuses to start with such a certificate, so this is Python's own TLS, and nothing behind it."""
    own = authority.pair("late", lasts=-timedelta(minutes=5))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    context.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with contextlib.suppress(OSError):
                        context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.slow
def test_mutual_tls_says_which_certificate_it_wants(
    served: Served, tiny_bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    own, acme = authority.pair("cloud"), authority.pair("acme")
    stranger = Authority(tmp_path / "other", "other").pair("acme")
    identity = Identity(tls_cert=own.cert, tls_key=own.key, client_ca=authority.cert)
    with cloud_thread(served, tiny_bundle, FakeRunner(), identity=identity) as node:
        known = Credentials(ca=authority.cert, cert=acme.cert, key=acme.key)
        with EdgeNode(node.address, credentials=known) as edge:
            assert edge.describe().models
        told = refusal(node.address, Credentials(ca=authority.cert), Denied)
        assert "asks for this device's certificate; give --cert and --key" in told
        unknown = Credentials(ca=authority.cert, cert=stranger.cert, key=stranger.key)
        assert "this device's certificate" in refusal(node.address, unknown, Denied)


@pytest.mark.parametrize(
    ("address", "uses_tls"),
    [
        ("127.0.0.1:1", False),
        ("localhost:1", False),
        ("[::1]:1", False),
        ("127.0.0.1:1,127.0.0.2:1", False),
        ("127.0.0.1:1,10.0.0.1:1", True),
        ("10.0.0.1:1", True),
        ("cloud.example:443", True),
        ("dns://10.0.0.1/127.0.0.1:1", True),
        ("127.0.0.1.example:1", True),
    ],
)
def test_a_token_leaves_this_machine_over_tls_only(address: str, uses_tls: bool) -> None:
    assert Credentials(token="t").uses_tls(address) is uses_tls
    assert not Credentials().uses_tls(address)


@pytest.mark.slow
def test_a_token_for_another_machine_is_not_sent_where_nobody_speaks_tls() -> None:
    """What comes over the wire is a handshake, and no header."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        heard.append(connection.recv(65536))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        token = "cleave_" + "secret" * 7 + "x"
        refusal(f"127.0.0.1:{listening.getsockname()[1]}", Credentials(token=token, ca="system"))
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert heard
    assert all(data[:1] == b"\x16" and b"secret" not in data for data in heard if data)


def test_the_environment_and_what_is_given_go_together(tmp_path: Path) -> None:
    environment = {"CLEAVE_TOKEN": "t", "CLEAVE_CA": "system", "CLEAVE_SERVER_NAME": "cloud"}
    found = Credentials.from_environment(environment)
    assert found == Credentials(token="t", ca="system", server_name="cloud")
    given = found.with_given(token_file=tmp_path / "t", ca="ca.pem")
    assert given == Credentials(token_file=tmp_path / "t", ca="ca.pem", server_name="cloud")
    assert Credentials.from_environment({}) == Credentials()


def test_a_token_is_in_no_repr() -> None:
    assert "secret" not in repr(Credentials(token="secret"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"cert": Path("c")}, "go together"),
        ({"token": "a", "token_file": Path("t")}, "give one of them"),
        ({"token": "two words"}, "no single word"),
        ({"token": "line\nbreak"}, "no single word"),
        ({"token_file": Path("nowhere")}, "cannot read the token file"),
        ({"ca": Path("nowhere")}, "cannot read the authority"),
        ({"ca": Path(__file__)}, "no certificate in PEM"),
        ({"cert": Path(__file__), "key": Path(__file__)}, "no certificate and its key"),
    ],
)
def test_credentials_that_cannot_be_used_are_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    def use() -> None:
        credentials = Credentials(**fields)
        credentials.metadata()
        credentials.pem()

    with pytest.raises(BadInput, match=sentence):
        use()
