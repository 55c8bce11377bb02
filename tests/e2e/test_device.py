"""The device needs neither torch nor transformers: not imported where they are, not needed where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.dockerfiles import build

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
def test_edge_image_made_by_its_steps_has_no_torch_and_asks_a_cloud(
    cloud: str, tmp_path: Path, pictures: list[Path], whole_answer: Callable[[Path, str, int], str]
) -> None:
    """The steps install the edge's dependencies alone, into an environment of its own."""
    image = build(ROOT / "deploy" / "images" / "edge.Dockerfile", ROOT, tmp_path)
    assert image.copied == ["/opt/cleave"]
    assert image.lacks("torch", "transformers", "cloud_node", "pip")
    asked = ("cleave", "ask", "what colour?", "--image", pictures[0], "--split", 6, "--codec", "raw")
    result = image.run(*asked, "--max-tokens", 8, "--json", CLEAVE_CLOUD=cloud)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["text"] == whole_answer(pictures[0], "what colour?", 8)
    healthy = image.run(*image.command("HEALTHCHECK"), CLEAVE_CLOUD=cloud)
    assert (healthy.returncode, healthy.stdout) == (0, "ready\n"), healthy.stderr
