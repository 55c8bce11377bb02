"""Bars hold or do not, and a result says on what it was measured."""

import json
from pathlib import Path

import pytest

from bench.command import run_benchmark
from bench.footprint import installed_bytes
from bench.report import Bar, Result, write
from wire.errors import BadInput


@pytest.mark.parametrize(
    ("value", "sense", "is_ok"),
    [(0.9, "at least", True), (0.899, "at least", False), (0.9, "at most", True), (0.901, "at most", False)],
)
def test_a_bar_holds_up_to_its_bound(value, sense, is_ok):
    assert Bar("b", value, 0.9, sense).is_ok is is_ok


def test_a_value_that_is_no_number_misses_every_bar():
    assert not Bar("b", float("nan"), 0.9, "at least").is_ok
    assert not Bar("b", float("nan"), 0.9, "at most").is_ok


def test_one_missed_bar_fails_the_result():
    kept, missed = Bar("kept", 1, 1, "at most"), Bar("missed", 2, 1, "at most")
    assert Result("r", {}, 0, [kept], []).is_ok
    assert not Result("r", {}, 0, [kept, missed], []).is_ok


def test_the_results_file_says_machine_versions_seed_settings_and_bars(tmp_path: Path):
    path = write(Result("r", {"quick": False}, 7, [Bar("b", 2, 1, "at most")], [], {"more": 1}), tmp_path)
    written = json.loads(path.read_text())
    assert path.name == "r.json"
    assert written["machine"]["cores"] >= 1
    assert set(written["versions"]) >= {"cleave", "torch", "transformers"}
    assert (written["seed"], written["settings"], written["ok"]) == (7, {"quick": False}, False)
    assert written["bars"] == [{"name": "b", "value": 2, "bound": 1, "sense": "at most", "ok": False}]


def test_a_sample_does_not_replace_the_full_figures(tmp_path: Path):
    assert write(Result("r", {"quick": True}, 0, [], []), tmp_path).name == "r-quick.json"


def test_an_unknown_benchmark_is_named_with_those_there_are():
    with pytest.raises(BadInput, match="exact, footprint, accuracy"):
        run_benchmark("nothing", quick=True, data=None, as_json=True)


def test_the_edge_extra_brings_onnxruntime_and_no_torch():
    sizes = installed_bytes("cleave", ("edge",))
    assert sizes["onnxruntime"] > 10e6
    assert not {"torch", "transformers", "onnx", "scikit-learn"} & set(sizes)
