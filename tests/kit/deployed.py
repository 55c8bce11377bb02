"""The files of deploy/, read: what runs which command, and what asks for which metric."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = sorted(
    path for folder in ("base", "envoy") for path in (DEPLOY / "kubernetes" / folder).glob("*.yaml")
    if path.name != "kustomization.yaml"
)  # fmt: skip
COMPOSE_FILES = sorted((DEPLOY / "compose").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def tool(name: str) -> str:
    """Of this environment, which always has those that pip installs; or the machine's, or the test is skipped."""
    own = Path(sys.executable).with_name(name)
    found = str(own) if own.is_file() else shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def manifests(kind: str) -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from (one for one in documents(path) if one["kind"] == kind)


def cloud_commands() -> Iterator[tuple[str, list[str]]]:
    """Where it is said, and the words after `cleave cloud`; variables left as they are."""
    for path in COMPOSE_FILES:
        cloud = documents(path)[0]["services"].get("cloud", {})
        if "command" in cloud:
            yield path.name, cloud["command"][1:]
    for deployment in manifests("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container["image"] == "cleave-cloud":
                yield "cloud.yaml", container["args"][1:]
    yield "cleave-cloud.service", _unit_words("cleave-cloud.service", "cloud")


def option(words: list[str], name: str) -> str | None:
    """The value of `--name=value` or `--name value`."""
    for index, word in enumerate(words):
        if word == name:
            return words[index + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def unit_settings(path: Path) -> dict[str, str]:
    """Of a systemd unit; of what is given several times, the last."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and line[0] not in "#["]
    return dict(line.split("=", 1) for line in lines)


def queries() -> Iterator[tuple[str, str]]:
    """(where, expression): every question that a dashboard or an alert asks Prometheus."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "cleave.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']!r}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']!r}", variable["query"]
    for group in documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def _unit_words(name: str, command: str) -> list[str]:
    words = shlex.split(unit_settings(DEPLOY / "systemd" / name)["ExecStart"])
    options = dict(
        line.split("=", 1)
        for line in (DEPLOY / "systemd" / f"{command}-example.env").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    extra = options[f"CLEAVE_{'OPTIONS' if command == 'cloud' else 'LISTEN_OPTIONS'}"]
    return [word for word in words[words.index(command) + 1 :] if word != "$CLEAVE_OPTIONS"] + shlex.split(
        extra
    )
