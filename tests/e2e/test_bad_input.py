"""Bad input to the command: one sentence on standard error, exit code 1, in bounded time."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from tests.kit.clouds import FakeRunner, cloud_thread, served_from
from tests.kit.commands import Ended, cleave, cleave_each, ended, started
from tests.kit.pictures import encoded, png_that_claims, textured, written

pytestmark = pytest.mark.slow


def ask(cloud: str, image: Path | str, *options: object) -> tuple[object, ...]:
    return ("ask", "what?", "--cloud", cloud, "--image", image, "--timeout", 1, *options)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    written(folder / "good.png", 40, 30)
    (folder / "empty.png").touch()
    (folder / "truncated.jpg").write_bytes(encoded(textured(200, 200), "JPEG")[:3000])
    (folder / "huge.png").write_bytes(png_that_claims(12_000, 12_000))
    (folder / "page.html").write_text("<html><body>no picture</body></html>")
    with (folder / "fat.png").open("wb") as file:
        file.truncate(100 << 20)
    return folder


def test_picture_that_cannot_be_used_is_one_clear_error(cloud: str, cache: Path, files: Path) -> None:
    says = {
        "missing.png": "does not exist",
        ".": "directory",
        "empty.png": "empty",
        "truncated.jpg": "truncated",
        "huge.png": "144,000,000 pixels",
        "page.html": "known format",
        "fat.png": "104,857,600 bytes",
    }
    results = cleave_each([ask(cloud, files / name) for name in says], cache)
    for (name, what), result in zip(says.items(), results, strict=True):
        sentence = result.require_one_clear_error()
        assert what in sentence
        assert str(files / name) in sentence
        assert result.out == ""


def test_arm_or_setting_that_does_not_exist_is_one_clear_error(cloud: str, cache: Path, files: Path) -> None:
    picture = files / "good.png"
    says = {
        ("--split", "99"): "0 to 9",
        ("--codec", "mp3"): "no codec 'mp3'",
        ("--model", "another"): "'another'",
        ("--max-tokens", "99999999999"): "max_new_tokens",
        ("--deadline-s", "-1"): "deadline",
    }
    results = cleave_each([ask(cloud, picture, *options) for options in says], cache)
    for what, result in zip(says.values(), results, strict=True):
        assert what in result.require_one_clear_error()


def test_question_that_cannot_be_asked_is_one_clear_error(cloud: str, cache: Path, files: Path) -> None:
    rest = ("--cloud", cloud, "--image", files / "good.png")
    says = {"": "empty", "what is <image>?": "'<image>'", "x" * 70_000: "65,536", "\udcff": "UTF-8"}
    results = cleave_each([("ask", question, *rest) for question in says], cache)
    for what, result in zip(says.values(), results, strict=True):
        assert what in result.require_one_clear_error()


def test_error_as_json_is_one_object_too(cloud: str, cache: Path, files: Path) -> None:
    result = cleave(*ask(cloud, files / "empty.png", "--json"), cache=cache)
    sentence = result.require_one_clear_error()
    assert json.loads(result.out) == {"ok": False, "error": {"code": "bad_input", "message": sentence}}


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def speaking_http() -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def another_service() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


def test_address_where_no_cloud_is_is_one_clear_error(cache: Path, files: Path) -> None:
    with refusing() as nobody, silent() as mute, speaking_http() as web, another_service() as other:
        places = [nobody, mute, web, other, "no-such-host.invalid:50051", "localhost", "nonsense:port"]
        asked = cleave_each([ask(place, files / "good.png") for place in places], cache)
        described = cleave_each(
            [("describe", "--cloud", place, "--timeout", 1) for place in places[1:3]], cache
        )
    for place, result in zip(places, asked, strict=True):
        assert place in result.require_one_clear_error()
    for place, result in zip(places[1:3], described, strict=True):
        assert place in result.require_one_clear_error()


def test_cache_that_cannot_be_written_is_one_clear_error(cloud: str, files: Path) -> None:
    result: Ended = cleave(*ask(cloud, files / "good.png"), cache=files / "good.png")
    assert "set CLEAVE_CACHE" in result.require_one_clear_error()


def test_cloud_that_goes_in_mid_answer_is_one_clear_error(
    tiny_bundle: Path, cache: Path, files: Path
) -> None:
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(cloud_thread(served_from(tiny_bundle), tiny_bundle, FakeRunner()))
        command = (
            *("ask", "hold for ever", "--cloud", node.address, "--timeout", "1"),
            *("--image", files / "good.png"),
        )
        process = stack.enter_context(started(*command, cache=cache))
        assert process.stdout is not None
        assert process.stdout.read(len("hold ")) == "hold "
        node.call(node.server.stop())
        assert node.address in ended(process).require_one_clear_error()
