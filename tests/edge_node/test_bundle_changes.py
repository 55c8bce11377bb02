"""Edges while a cloud's bundle changes under them: rolled out, rolled back, gone. No request is lost by it."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cleave import BundleTrust, EdgeNode
from cloud_node.ready import Ready
from cloud_node.streams.rollout import RolloutConfig
from edge_node import models as models_module
from edge_node.bundle_store import BundleStore
from edge_node.models import Models
from edge_node.once_more import once_more
from tests.kit.bundle_copies import digest_of, rewritten, signed, trust_in
from tests.kit.clouds import (
    LIMIT_S,
    CloudThread,
    FakeRunner,
    cloud_thread,
    cloud_thread_of,
    served_from,
    settle,
    until,
)
from tests.kit.pictures import textured
from wire.errors import Denied, IncompatibleBundle

PICTURE = textured(60, 40)
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)


@dataclass
class Rolling:
    """A cloud that serves two bundles of one name, both signed, and the file that says who is told of which."""

    node: CloudThread
    bundles: list[Path]
    runners: list[FakeRunner]
    file: Path

    def roll(self, share: str) -> None:
        """The cloud looks every second whether the file changed; here at once."""
        (watched,) = self.node.server._parts.rollout.watched
        before = watched.value
        new = self.file.with_suffix(".new")
        new.write_text(share)
        new.replace(self.file)
        watched.refresh()
        self.node.call(until(lambda: watched.value is not before))

    @property
    def num_ran(self) -> list[int]:
        return [len(runner.ran) for runner in self.runners]


@pytest.fixture
def rolling(tmp_path: Path, tiny_bundle: Path) -> Iterator[Rolling]:
    bundles = [
        signed(tiny_bundle, tmp_path / "old", KEY),
        signed(rewritten(tiny_bundle, tmp_path / "other"), tmp_path / "new", KEY),
    ]
    runners = [FakeRunner(), FakeRunner()]
    file = tmp_path / "rollout"
    file.write_text("0%")
    models = [
        Ready(served_from(bundle), runner, bundle) for bundle, runner in zip(bundles, runners, strict=True)
    ]
    # Without a cache, so that equal questions are work.
    with cloud_thread_of(models, rollout=RolloutConfig(file=file), cache_bytes=0) as node:
        yield Rolling(node, bundles, runners, file)


def ask(edge: EdgeNode, words: str = "hi") -> str:
    return edge.ask(words, PICTURE, split=2).text()


@pytest.mark.usefixtures("always_asks")
def test_rollout_and_rollback_in_mid_traffic_fail_no_request(rolling: Rolling, tmp_path: Path) -> None:
    answers: list[str] = []
    errors: list[BaseException] = []
    stopping = threading.Event()

    def work(number: int) -> None:
        try:
            with EdgeNode(
                rolling.node.address, bundles=tmp_path / f"kept{number}", trust=trust_in(KEY)
            ) as edge:
                while not stopping.is_set():
                    answers.append(ask(edge, "three short words"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for share, used in (("0%", 0), ("100%", 1), ("0%", 0)):
        rolling.roll(share)
        before = rolling.num_ran
        rolling.node.call(until(lambda: bool(errors) or rolling.num_ran[used] > before[used] + 6))  # noqa: B023
    stopping.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert errors == []
    assert set(answers) == {"three short words "}
    assert sum(rolling.num_ran) == len(answers)


def test_edge_on_either_bundle_is_answered_whatever_the_share(rolling: Rolling, tmp_path: Path) -> None:
    with EdgeNode(rolling.node.address, bundles=tmp_path / "kept", trust=trust_in(KEY)) as edge:
        assert ask(edge) == "hi "
        rolling.roll("100%")
        assert ask(edge) == "hi "
        assert rolling.num_ran == [2, 0]
    with EdgeNode(rolling.node.address, bundles=tmp_path / "kept", trust=trust_in(KEY)) as edge:
        assert ask(edge) == "hi "
        assert rolling.num_ran == [2, 1]


@pytest.mark.usefixtures("always_asks")
def test_next_bundle_that_is_not_trusted_costs_a_running_edge_nothing_while_the_old_one_is_served(
    rolling: Rolling, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EdgeNode(rolling.node.address, bundles=tmp_path / "kept") as edge:
        assert ask(edge) == "hi "
        rolling.roll("100%")
        with caplog.at_level(logging.WARNING, models_module.__name__):
            assert ask(edge) == "hi "
        assert "cleave trust accept" in caplog.text
        assert rolling.num_ran == [2, 0]
        assert not (tmp_path / "kept" / digest_of(rolling.bundles[1])).exists()
    # One that starts says so at once.
    with (
        EdgeNode(rolling.node.address, bundles=tmp_path / "kept") as edge,
        pytest.raises(Denied, match="cleave trust accept"),
    ):
        ask(edge)


def replaced(
    tmp_path: Path, tiny_bundle: Path, trust: BundleTrust
) -> Iterator[tuple[EdgeNode, FakeRunner, str]]:
    """An edge that was answered by a cloud, whose address another one has now; its runner, and its bundle's digest."""
    old = signed(tiny_bundle, tmp_path / "old", KEY)
    new = signed(rewritten(tiny_bundle, tmp_path / "other"), tmp_path / "new", KEY)
    with cloud_thread(served_from(old), old, FakeRunner()) as node:
        edge = EdgeNode(node.address, bundles=tmp_path / "kept", trust=trust)
        assert ask(edge) == "hi "
    runner = FakeRunner()
    with edge, cloud_thread(served_from(new), new, runner, listen=node.address):
        yield edge, runner, digest_of(new)


def test_bundle_that_is_gone_costs_one_more_try_and_no_error(tmp_path: Path, tiny_bundle: Path) -> None:
    for edge, runner, digest in replaced(tmp_path, tiny_bundle, trust_in(KEY)):
        assert ask(edge, "again") == "again "
        assert runner.ran == ["again"]
        assert (tmp_path / "kept" / digest / "manifest.json").exists()


def test_bundle_that_is_gone_for_one_that_is_not_trusted_is_denied(tmp_path: Path, tiny_bundle: Path) -> None:
    for edge, runner, digest in replaced(tmp_path, tiny_bundle, BundleTrust()):
        with pytest.raises(Denied, match=digest):
            ask(edge, "again")
        assert runner.ran == []
        assert not (tmp_path / "kept" / digest).exists()


class Counting(Models):
    num_forgotten = 0

    def forget(self) -> None:
        self.num_forgotten += 1
        super().forget()


@pytest.mark.parametrize("said", [[], ["one "]])
def test_it_is_tried_once_more_and_only_where_nothing_was_said(tmp_path: Path, said: list[str]) -> None:
    num_asked = 0

    async def ask() -> AsyncGenerator[str, None]:
        nonlocal num_asked
        num_asked += 1
        for word in said:
            yield word
        raise IncompatibleBundle("another one is served")

    heard = ""
    models = Counting(BundleStore(tmp_path))

    async def run() -> None:
        nonlocal heard
        async for word in once_more(models, ask):
            heard += word

    with pytest.raises(IncompatibleBundle):
        settle(run())
    assert heard == "".join(said)
    assert models.num_forgotten == 1
    assert num_asked == (1 if said else 2)
