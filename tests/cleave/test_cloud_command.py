"""`cleave cloud` of several models: what goes together is checked before it listens, and said in one sentence."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from cleave.serving import serve_cloud
from edge_node.blocking import EdgeNode
from tests.cloud_node.telemetry.test_health import get
from tests.kit.checkpoints import tiny_llava
from tests.kit.commands import ended, started
from wire.errors import BadInput, UnknownModel

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("num_models", "num_bundles", "names", "sentence"),
    [
        (2, 1, (), "there are 2 models and 1 --bundle; give one per model"),
        (2, 2, ("a",), "there are 2 models and 1 --name; give one per model"),
        (2, 2, (), "two models would be served as 'tiny'; give each a --name"),
    ],
)
def test_models_bundles_and_names_that_do_not_go_together_are_one_sentence(
    tiny_checkpoint: Path,
    tiny_bundle: Path,
    num_models: int,
    num_bundles: int,
    names: tuple[str, ...],
    sentence: str,
) -> None:
    with pytest.raises(BadInput, match=sentence):
        serve_cloud(
            [str(tiny_checkpoint)] * num_models, [tiny_bundle] * num_bundles, names, listen="127.0.0.1:0"
        )


def test_redis_url_that_cannot_be_used_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the Redis URL cannot be used: it begins with neither"):
        serve_cloud([str(tmp_path / "none")], redis_url="localhost:6379")


def test_one_model_that_does_not_load_ends_the_start(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    models = [str(tiny_checkpoint), str(tmp_path / "none")]
    with pytest.raises(UnknownModel, match="none is not a directory"):
        serve_cloud(models, [tiny_bundle, tiny_bundle], listen="127.0.0.1:0")


def test_process_is_alive_and_not_ready_while_its_model_loads(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    seen: list[tuple[int, str]] = []

    def load(*given: object) -> None:
        seen.extend(get(address, path) for path in ("/healthz", "/readyz", "/metrics"))
        raise UnknownModel("it does not load")

    monkeypatch.setattr("cleave.serving.load", load)
    with pytest.raises(UnknownModel, match="does not load"):
        serve_cloud(["default"], [tiny_bundle], listen="127.0.0.1:0", metrics_listen=address)
    assert seen == [(200, "starting\n"), (503, "starting\n"), (503, "starting\n")]
    with pytest.raises(OSError):
        get(address, "/healthz")


def test_two_models_are_described_under_their_names(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    other = tiny_llava(tmp_path / "other", layers=2, width=16, seed=9)
    command = (
        "cloud", "--model", tiny_checkpoint, "--model", other, "--listen", "127.0.0.1:0", "--name", "first",
        "--name", "second", "--index-dir", tmp_path / "indexes",
    )  # fmt: skip
    with started(*command, cache=tmp_path / "cache") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), ended(process).err
        with EdgeNode(line.split()[-1], bundles=tmp_path / "bundles") as edge:
            reply = edge.describe()
        process.terminate()
        with contextlib.suppress(ValueError):
            assert ended(process).code == 0
    assert [model.name for model in reply.models] == ["first", "second"]
    assert reply.models[0].bundle_digest != reply.models[1].bundle_digest
