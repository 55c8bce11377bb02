"""The device needs neither torch nor transformers: not imported where they are, not needed where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.commands import cleave

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "safetensors", "onnx", "splitmodel", "cloud_node", "partitioner")
ASK = """
import json, sys
from pathlib import Path
from cleave import EdgeNode
address, picture, bundles = sys.argv[1:]
with EdgeNode(address, bundles=Path(bundles)) as edge:
    text = edge.ask("what colour?", picture, split=6, codec="raw", max_new_tokens=8).text()
print(json.dumps({"text": text, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_asking_imports_nothing_that_only_the_cloud_needs(
    cloud: str, cache: Path, pictures: list[Path], whole_answer: Callable[[Path, str, int], str]
) -> None:
    command = [sys.executable, "-c", ASK, cloud, str(pictures[0]), str(cache / "bundles")]
    result = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    )
    assert result["text"] == whole_answer(pictures[0], "what colour?", 8)
    assert not set(HEAVY) & set(result["modules"])


@pytest.mark.timeout(600)
def test_installation_of_the_edge_extra_alone_asks_a_cloud(
    cloud: str, tmp_path: Path, pictures: list[Path], whole_answer: Callable[[Path, str, int], str]
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", "constraints.txt", f"{ROOT}[edge]"], check=True, cwd=ROOT, timeout=500)
    for name in ("torch", "transformers"):
        command = [python, "-c", f"import {name}"]
        assert b"ModuleNotFoundError" in subprocess.run(command, capture_output=True, cwd=tmp_path).stderr
    asked = ("ask", "what colour?", "--cloud", cloud, "--image", pictures[0], "--split", 6, "--codec", "raw")
    result = cleave(*asked, "--max-tokens", 8, "--json", cache=tmp_path, python=python, folder=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out)["text"] == whole_answer(pictures[0], "what colour?", 8)
