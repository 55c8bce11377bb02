"""Two bundles of the same weights under one name, as a process: rolled out by a file, and answered alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleave import BundleTrust, EdgeNode
from cleave import serving as serving_module
from cleave.processes import cloud_process
from cleave.serving import serve_cloud
from cloud_node.server import Source
from tests.kit.bundle_copies import digest_of, rewritten
from tests.kit.commands import LIMIT_S, cleave
from wire.errors import BadInput

pytestmark = pytest.mark.slow


def test_edges_of_both_bundles_get_the_whole_models_answer_at_the_same_time(
    tiny_checkpoint: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    pictures: list[Path],
    whole_answer: Callable[[Path, str, int], str],
) -> None:
    other, file = rewritten(tiny_bundle, tmp_path / "other"), tmp_path / "rollout"
    file.write_text("0%")
    expected = [whole_answer(picture, "what?", 24) for picture in pictures]
    texts: dict[str, list[str]] = {}

    def work(edge: EdgeNode, digest: str) -> None:
        texts[digest] = [
            edge.ask("what?", picture, split=3, codec="raw", max_new_tokens=24).text() for picture in pictures
        ]

    more = (
        "--bundle", str(other), "--model", str(tiny_checkpoint), "--name", "m", "--name", "m", "--cache-mb", "0",
        "--rollout-file", str(file),
    )  # fmt: skip
    with cloud_process(str(tiny_checkpoint), None, "--bundle", str(tiny_bundle), *more) as (address, _):
        with (
            EdgeNode(address, bundles=tmp_path / "a", trust=BundleTrust(pins=False)) as first,
            EdgeNode(address, bundles=tmp_path / "b", trust=BundleTrust(pins=False)) as second,
        ):
            work(first, "warm")  # it holds the first bundle from now on
            file.write_text("m 100%")
            until_told(second, digest_of(other))
            threads = [
                threading.Thread(target=work, args=(edge, digest_of(bundle)))
                for edge, bundle in ((first, tiny_bundle), (second, other))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT_S)
        described = cleave("describe", "--cloud", address, cache=tmp_path).out
    assert list(texts.values()) == [expected] * 3
    assert (tmp_path / "a" / digest_of(tiny_bundle)).exists()
    assert (tmp_path / "b" / digest_of(other)).exists()
    assert f"m ({digest_of(other)[:12]})" in described
    assert f"also served: {digest_of(tiny_bundle)[:12]}" in described


def until_told(edge: EdgeNode, digest: str) -> None:
    """The cloud looks at its file once a second."""
    ends_s = time.monotonic() + LIMIT_S
    while edge.describe().models[0].bundle_digest != digest:
        assert time.monotonic() < ends_s


def test_weights_that_two_bundles_share_are_loaded_once(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Source] = []
    monkeypatch.setattr(serving_module, "run", lambda config, sources, *_: served.extend(sources))
    bundles = [tiny_bundle, rewritten(tiny_bundle, tmp_path / "other")]
    settings: dict[str, Any] = {"listen": "127.0.0.1:0", "rollout": 0.5}
    serve_cloud([str(tiny_checkpoint)] * 2, bundles, ["m", "m"], **settings)
    assert served[0].checkpoint is served[1].checkpoint
    assert [one.bundle for one in served] == bundles


def test_share_that_is_none_is_one_clear_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = cleave("cloud", "--model", tiny_checkpoint, "--rollout", "10", cache=tmp_path)
    assert "'10' is no share of a rollout" in result.require_one_clear_error()
    with pytest.raises(BadInput, match="both were given"):
        serve_cloud([str(tiny_checkpoint)], rollout=0.1, rollout_file=tmp_path / "file")
