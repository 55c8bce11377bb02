"""The images: what a linter says, what they promise, and their steps run without docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.dockerfiles import build, instructions
from tests.kit.installed import link, needed_for
from tests.kit.ports import free_port

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "deploy" / "images").glob("*.Dockerfile"))
ONE_EACH = pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.stem)


@ONE_EACH
def test_linter_finds_nothing(dockerfile: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("hadolint")),
        "--failure-threshold",
        "style",
        str(dockerfile),
    ]
    linted = subprocess.run(command, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@ONE_EACH
def test_image_has_a_pinned_base_two_stages_a_user_and_a_health_check(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    words = [word for word, _ in steps]
    base = next(rest for word, rest in steps if word == "ARG" and rest.startswith("BASE="))
    assert re.search(r":3\.\d+-[a-z-]+$", base), "the base has no tag"
    assert words.count("FROM") == 2
    last = dict(steps[words.index("FROM", words.index("FROM") + 1) :])
    assert last["USER"] == "10001:10001"
    assert {"HEALTHCHECK", "ENTRYPOINT"} <= set(last)
    installs = [rest for word, rest in steps if word == "RUN" and "pip" in rest]
    assert installs
    assert all("--no-cache-dir" in rest and "-c constraints.txt" in rest for rest in installs)


def test_edge_image_is_made_of_nothing_of_the_cloud() -> None:
    ignore = (ROOT / "deploy" / "images" / "edge.Dockerfile.dockerignore").read_text().split()
    assert {"!cleave", "!edge_node", "!wire"} <= set(ignore)
    assert not {"!cloud_node", "!splitmodel", "!partitioner", "!assets"} & set(ignore)


@pytest.mark.slow
def test_cloud_image_made_by_its_steps_serves_and_tells_its_health(
    tmp_path: Path, tiny_checkpoint: Path, tiny_bundle: Path
) -> None:
    """pip installs cleave alone: what it needs lies there already, as links to just that, at the pinned versions."""
    needed = link(needed_for(ROOT / "pyproject.toml", "partition", "tracing"), tmp_path / "needed")
    site = tmp_path / "image" / "opt" / "cleave" / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (site / "needed.pth").write_text(f"{needed}\n")
    image = build(ROOT / "deploy" / "images" / "cloud.Dockerfile", ROOT, tmp_path)
    assert sorted(image.copied) == ["/opt/cleave"]
    assert image.lacks("pytest", "atheris", "jiwer", "pip")
    port = free_port()
    arguments = [
        "cloud", "--model", str(tiny_checkpoint), "--bundle", str(tiny_bundle), "--listen", "127.0.0.1:0",
        "--metrics-listen", f"127.0.0.1:{port}",
    ]  # fmt: skip
    command = [str(image.at("/opt/cleave/bin/cleave")), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=image.environment_here(), cwd=tmp_path
    ) as cloud:
        try:
            assert cloud.stdout is not None
            address = cloud.stdout.readline().removeprefix("listening on ").strip()
            check = [word.replace("9100", str(port)) for word in image.command("HEALTHCHECK")]
            healthy = image.run(*check)
            described = json.loads(image.run("cleave", "describe", "--cloud", address, "--json").stdout)
        finally:
            cloud.terminate()
    assert healthy.stdout.strip() == "ready", healthy.stderr
    assert [model["name"] for model in described["models"]] == ["tiny"]
    assert cloud.returncode == 0
