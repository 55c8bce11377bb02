"""TLS of a real cloud: whom it lets connect, and certificates that change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from cloud_node.access import entrance
from cloud_node.access.identity import Identity
from cloud_node.access.transport import watch_certificates
from cloud_node.asked.served import Served
from cloud_node.server import CloudServer
from tests.kit.certificates import Authority, Pair
from tests.kit.clouds import FakeRunner, cloud, settle, until
from tests.kit.talking import Talk, opening
from wire.errors import BadInput, CleaveError, Denied, from_rpc_error
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def describe(server: CloudServer, ca: Path, device: Pair | None = None) -> CleaveError | None:
    """What is said to a caller on a new connection; None where all is well."""
    own = () if device is None else (device.key.read_bytes(), device.cert.read_bytes())
    secure = grpc.ssl_channel_credentials(ca.read_bytes(), *own)
    async with grpc.aio.secure_channel(server.address, secure) as made:
        try:
            await pb_grpc.InferenceStub(made).Describe(pb.DescribeRequest(), timeout=10)
        except grpc.RpcError as error:
            return from_rpc_error(error, "there")
    return None


def test_a_client_certificate_names_its_tenant_and_without_one_nobody_connects(
    served: Served, bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    own = authority.pair("cloud")
    identity = Identity(tls_cert=own.cert, tls_key=own.key, client_ca=authority.cert)
    acme = authority.pair("acme")
    stranger = Authority(tmp_path / "other", "other").pair("acme")

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner(), identity=identity) as server:
            assert await describe(server, authority.cert, acme) is None
            spoken = await describe(server, authority.cert, authority.pair("Two Words", x509.DNSName("x y")))
            assert isinstance(spoken, Denied)
            assert await describe(server, authority.cert) is not None
            assert await describe(server, authority.cert, stranger) is not None

    settle(run())


def test_a_new_certificate_is_shown_without_a_restart_and_open_streams_stay(
    served: Served, bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    own = authority.pair("renewed")
    other = Authority(tmp_path / "other", "other")

    async def run() -> None:
        identity = Identity(tls_cert=own.cert, tls_key=own.key)
        async with cloud(served, bundle, FakeRunner(), identity=identity) as server:
            secure = grpc.ssl_channel_credentials(authority.cert.read_bytes())
            async with grpc.aio.secure_channel(server.address, secure) as made:
                edge = Talk(pb_grpc.InferenceStub(made).Stream())
                await edge.welcomed()
                assert await describe(server, other.cert) is not None
                first_s = server._entrance.certificate_expires_s
                other.pair("renewed", lasts=timedelta(days=2), into=own)
                await until(lambda: server._entrance.certificate_expires_s != first_s)
                assert await describe(server, other.cert) is None
                assert await describe(server, authority.cert) is not None
                await edge.say(open=opening(served, "still here"))
                assert await edge.text("r1") == "still here "

    settle(run())


def test_half_of_a_renewal_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    """The certificate is written, its key not yet."""
    own, new = authority.pair("half"), authority.pair("half-new")
    watched = watch_certificates(Identity(tls_cert=own.cert, tls_key=own.key))
    assert watched is not None
    first = watched.value
    own.cert.write_bytes(new.cert.read_bytes())
    assert not watched.refresh()
    assert watched.value is first
    own.key.write_bytes(new.key.read_bytes())
    assert watched.refresh()
    assert watched.value is not first


def test_certificates_that_cannot_be_used_are_one_sentence_at_the_start(
    authority: Authority, tmp_path: Path
) -> None:
    good, other = authority.pair("good"), authority.pair("another")
    expired = authority.pair("expired", lasts=-timedelta(hours=1))
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    for cert, key, ca, sentence in (
        (good.cert, other.key, None, "is not that of the certificate"),
        (expired.cert, expired.key, None, "ended on"),
        (garbage, good.key, None, "no certificate in PEM"),
        (good.cert, garbage, None, "no key in PEM"),
        (good.cert, good.key, garbage, "no certificate in PEM"),
        (tmp_path / "none.pem", good.key, None, "cannot read the certificate"),
    ):
        with pytest.raises(BadInput, match=sentence):
            watch_certificates(Identity(tls_cert=cert, tls_key=key, client_ca=ca))


@pytest.mark.parametrize("has_tls", [True, False])
@pytest.mark.parametrize("first", [b"", b"PRI * HTTP/2.0\r\n"])
def test_who_connects_and_says_nothing_is_let_go(
    served: Served,
    bundle: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    has_tls: bool,
    first: bytes,
) -> None:
    own = authority.pair("silent")
    monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.2)

    async def run() -> None:
        identity = Identity(tls_cert=own.cert, tls_key=own.key) if has_tls else Identity()
        async with cloud(served, bundle, FakeRunner(), identity=identity) as server:
            host, _, port = server.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(first)
            with contextlib.suppress(ConnectionError):
                await reader.read()  # until the other side closes
            writer.close()

    settle(run())


def test_garbage_on_the_secure_port_harms_nobody(served: Served, bundle: Path, authority: Authority) -> None:
    own = authority.pair("garbled")

    async def run() -> None:
        identity = Identity(tls_cert=own.cert, tls_key=own.key)
        async with cloud(served, bundle, FakeRunner(), identity=identity) as server:
            host, _, port = server.address.rpartition(":")
            for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(1000)):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(data)
                writer.transport.abort()
            assert await describe(server, authority.cert) is None

    settle(run())
