"""What the files of deploy/ say of Cleave is so: options, metrics, ports, names, and seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cleave.cli import app
from cleave.health import READY_SERVICE
from cloud_node.config import CloudConfig
from tests.kit.deployed import (
    COMPOSE_FILES,
    DEPLOY,
    UNITS,
    cloud_commands,
    documents,
    manifests,
    option,
    queries,
    unit_settings,
)
from wire.limits import Limits

# Those that Prometheus adds when it scrapes, and a histogram's own.
SCRAPED = {"instance", "job", "namespace", "pod", "le"}
COMMANDS = pytest.mark.parametrize(
    "words", [pytest.param(words, id=where) for where, words in cloud_commands()]
)


def documented() -> Iterator[tuple[str, str, set[str]]]:
    """Name, type and labels of every metric in docs/metrics.md, which the tests of telemetry hold so."""
    text = (DEPLOY.parent / "docs" / "metrics.md").read_text()
    for name, kind, labels in re.findall(
        r"^\| `(cleave_\w+)` \| (\w+) \|[^|]*\|([^|]*)\|", text, re.MULTILINE
    ):
        yield name, kind, set(re.findall(r"`(\w+)`", labels))


def known_names() -> set[str]:
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, kind, _ in documented() for suffix in suffixes.get(kind, ("",))}


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda value: str(value)[:40])
def test_every_metric_and_label_that_is_asked_for_exists(where: str, query: str) -> None:
    names = set(re.findall(r"\bcleave_\w+", query))
    assert names or "up{" in query, where
    assert names <= known_names(), where
    labels = {name: labels for name, _, labels in documented()}
    for name, selector in re.findall(r"\b(cleave_\w+)\{([^}]*)\}", query):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= labels[base] | SCRAPED, where


def test_autoscaler_and_its_adapter_ask_for_the_queue() -> None:
    (scaler,) = manifests("HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    (adapter,) = documents(DEPLOY / "kubernetes" / "prometheus-adapter-values.yaml")
    (rule,) = adapter["rules"]["custom"]
    assert name == rule["name"]["as"] == "cleave_requests_queued"
    assert name in known_names()
    assert rule["seriesQuery"].startswith(name)


@COMMANDS
def test_every_option_of_a_cloud_that_is_started_exists(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    known = {
        name
        for parameter in command.commands["cloud"].params
        for name in parameter.opts + parameter.secondary_opts
    }
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


@COMMANDS
def test_cloud_that_is_started_says_who_may_call_and_drains_as_long_as_it_is_given(words: list[str]) -> None:
    assert option(words, "--tokens") is not None
    assert option(words, "--tls-key") is not None or "--trust-network" in words
    assert option(words, "--redis") is not None
    assert float(option(words, "--drain-s") or 0) == CloudConfig().drain_s


def test_whoever_ends_a_cloud_waits_for_its_drain() -> None:
    needed_s = CloudConfig().drain_s + 5
    for path in COMPOSE_FILES:
        cloud = documents(path)[0]["services"].get("cloud", {})
        if "command" in cloud:
            assert float(cloud["stop_grace_period"].removesuffix("s")) > needed_s
    (deployment,) = (one for one in manifests("Deployment") if one["metadata"]["name"] == "cleave-cloud")
    pod = deployment["spec"]["template"]["spec"]
    _, pause_s = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > float(pause_s) + needed_s
    unit = unit_settings(DEPLOY / "systemd" / "cleave-cloud.service")
    assert float(unit["TimeoutStopSec"]) > needed_s


def test_envoy_asks_for_readiness_lives_longer_than_streams_and_keeps_an_edge_on_its_node() -> None:
    from edge_node.edge_id import METADATA_KEY

    (envoy,) = documents(DEPLOY / "envoy" / "envoy.yaml")
    (cluster,) = envoy["static_resources"]["clusters"]
    (check,) = cluster["health_checks"]
    assert check["grpc_health_check"]["service_name"] == READY_SERVICE
    (listener,) = envoy["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert route["timeout"] == "0s"
    for setting in (route["idle_timeout"], manager["stream_idle_timeout"]):
        assert float(setting.removesuffix("s")) > Limits().stream_idle_s
    assert route["hash_policy"][0]["header"]["header_name"] == METADATA_KEY
    assert set(route["retry_policy"]["retry_on"].split(",")) == {"connect-failure", "refused-stream"}


def test_envoy_finds_the_nodes_by_the_name_that_kubernetes_and_compose_give_them() -> None:
    (envoy,) = documents(DEPLOY / "envoy" / "envoy.yaml")
    (cluster,) = envoy["static_resources"]["clusters"]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    address = endpoint["address"]["socket_address"]
    (headless,) = (one for one in manifests("Service") if one["spec"].get("clusterIP") == "None")
    assert address["address"] == headless["metadata"]["name"]
    assert address["port_value"] == headless["spec"]["ports"][0]["port"]
    (balanced,) = documents(DEPLOY / "compose" / "compose.balanced.yaml")
    assert address["address"] in balanced["services"]["cloud"]["networks"]["behind"]["aliases"]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("Deployment", "StatefulSet"):
        for one in manifests(kind):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


@pytest.mark.parametrize(("name", "pod"), pods(), ids=lambda value: value if isinstance(value, str) else "")
def test_pod_keeps_the_restricted_standard_has_probes_and_bounded_memory(
    name: str, pod: dict[str, Any]
) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and what we ask beyond it."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        assert "memory" in container["resources"]["limits"]
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_every_service_of_compose_is_bounded_watched_and_without_privileges() -> None:
    for path in COMPOSE_FILES:
        for name, service in documents(path)[0]["services"].items():
            if "image" not in service or path.name == "compose.cuda.yaml":
                continue
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["deploy"]["resources"]["limits"]["memory"], name
            # The cloud's is its image's.
            assert "healthcheck" in service or name == "cloud", name


def test_images_and_processes_share_ports_and_paths() -> None:
    dockerfile = (DEPLOY / "images" / "cloud.Dockerfile").read_text()
    assert "EXPOSE 50051 9100" in dockerfile
    for where, words in cloud_commands():
        if not where.endswith(".service"):
            assert option(words, "--listen") == "0.0.0.0:50051"
            assert option(words, "--metrics-listen") == "0.0.0.0:9100"
    for unit in UNITS:
        assert "/opt/cleave/bin/cleave" in unit.read_text()


def test_dashboard_has_no_two_panels_in_one_place() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "cleave.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
