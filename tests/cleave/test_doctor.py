"""`cleave doctor` as a real process: one JSON object, little memory whatever the model's size, an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cleave.doctor import parse_bytes
from tests.kit.commands import cleave
from tests.kit.full_size_configs import FULL_SIZE
from wire.errors import BadInput

# Its peak from the kernel's own books: what wait4 tells of a child counts what its parent had when it forked.
_TELLING_ITS_PEAK = """
import atexit, re, sys
from pathlib import Path
from cleave.cli import main
status = Path("/proc/self/status")
atexit.register(lambda: print(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1], file=sys.stderr))
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc")
def test_a_7b_model_takes_one_json_object_and_under_1_gb(tmp_path: Path) -> None:
    folder = FULL_SIZE["LLaVA-1.5-7B"].save(tmp_path / "model")
    command = [sys.executable, "-c", _TELLING_ITS_PEAK, "doctor", str(folder), "--memory", "1GB", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert int(run.stderr) * 1024 < 1e9
    found = json.loads(run.stdout)
    assert found["ok"]
    assert found["parameters"] == FULL_SIZE["LLaVA-1.5-7B"].num_parameters
    [encoder] = found["encoders"]
    points = encoder["split_points"]
    fitting = [point["index"] for point in points if point["fits"]]
    assert fitting == list(range(len(fitting)))
    assert 0 < encoder["deepest"] == fitting[-1] < len(points) - 1


@pytest.mark.slow
def test_a_person_reads_the_answer_first_and_then_one_row_per_split_point(tmp_path: Path) -> None:
    run = cleave("doctor", "default", cache=tmp_path)
    assert run.code == 0
    assert run.err == ""
    lines = run.out.splitlines()
    assert lines[1] == "can it be split: yes"
    assert "best split point is" in run.out
    assert sum("model.vision_tower" in line for line in lines if "│" in line) > 10


@pytest.mark.slow
def test_a_model_that_cannot_be_split_says_why_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    run = cleave("doctor", tmp_path, "--json", cache=tmp_path)
    assert run.code == 1
    found = json.loads(run.out)
    assert not found["ok"]
    assert "neither generates" in found["problems"][0]


@pytest.mark.slow
def test_no_such_model_is_one_clear_error(tmp_path: Path) -> None:
    run = cleave("doctor", tmp_path / "none", cache=tmp_path)
    assert "none is not a directory" in run.require_one_clear_error()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512MB", 512_000_000), ("2GiB", 2 << 30), ("1.5 kb", 1500), ("0.5GB", 500_000_000), ("4096", 4096)],
)
def test_amounts_of_memory_are_read(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1MB", "1TB", "1e3", "9" * 40])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_bytes(text)
