"""Maintained validators read every file of deploy/ and find nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.kit.deployed import COMPOSE_FILES, DEPLOY, MANIFESTS, UNITS, queries, tool

KUBERNETES = DEPLOY / "kubernetes"
ENVOYS = sorted((DEPLOY / "envoy").glob("*.yaml"))
# systemd-analyze's measure of what a service could still do, 0 to 10; it calls those up to 2 well sandboxed.
MOST_EXPOSED = 20


def require_clean(*command: object, folder: Path = DEPLOY) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_compose_files_keep_their_schema() -> None:
    require_clean(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *COMPOSE_FILES)


def test_manifests_keep_kubernetes_schema_strictly() -> None:
    told = require_clean(tool("kubernetes-validate"), "--strict", *MANIFESTS)
    assert told.count("passed") >= 18


@pytest.mark.parametrize("folder", ["base", "overlays/gpu"])
def test_kustomization_builds_what_keeps_the_schema(folder: str, tmp_path: Path) -> None:
    built = tmp_path / "built.yaml"
    built.write_text(require_clean(tool("kubectl"), "kustomize", KUBERNETES / folder))
    require_clean(tool("kubernetes-validate"), "--strict", "--quiet", built)
    assert "image: cleave-cloud\n" not in built.read_text(), "an image without a registry"


def test_alerts_and_scrape_configuration_are_read_by_prometheus_and_the_alerts_come_when_they_should() -> (
    None
):
    folder, promtool = DEPLOY / "prometheus", tool("promtool")
    require_clean(promtool, "check", "config", "prometheus.yml", folder=folder)
    require_clean(promtool, "check", "rules", "alerts.yml", folder=folder)
    require_clean(promtool, "test", "rules", "alerts.test.yml", folder=folder)


def test_every_query_of_the_dashboard_is_one_that_prometheus_reads(tmp_path: Path) -> None:
    lines = ["groups:", "- name: panels", "  rules:"]
    panels = [expression for where, expression in queries() if where.startswith("panel")]
    for index, expression in enumerate(panels):
        said = expression.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("'", "''")
        lines += [f"  - record: panel{index}", f"    expr: '{said}'"]
    rules = tmp_path / "rules.yml"
    rules.write_text("\n".join(lines) + "\n")
    told = require_clean(tool("promtool"), "check", "rules", rules)
    assert f"{len(panels)} rules found" in told


@pytest.mark.parametrize("config", ENVOYS, ids=lambda path: path.stem)
def test_envoy_accepts_its_configuration(config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("/run/secrets", str(tmp_path))
    _write_certificate(tmp_path / "tls_cert", tmp_path / "tls_key")
    (tmp_path / "envoy.yaml").write_text(text)
    require_clean(tool("envoy"), "--mode", "validate", "-c", tmp_path / "envoy.yaml")


def test_envoy_with_tls_is_envoy_without_it_and_a_certificate() -> None:
    plain, tls = (_without_comments(DEPLOY / "envoy" / name) for name in ("envoy.yaml", "envoy-tls.yaml"))
    socket = re.compile(r"        - transport_socket:\n.*?(?=          filters:)", re.DOTALL)
    assert len(socket.findall(tls)) == 1
    assert socket.sub("", tls) == plain.replace("        - filters:", "          filters:")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_unit_is_read_by_systemd_and_well_sandboxed(unit: Path, tmp_path: Path) -> None:
    """Its program is somewhere else on this machine, or nowhere: another stands in."""
    analyze = tool("systemd-analyze")
    copy = tmp_path / unit.name.replace("@.", "@here.")
    program = shutil.which("true")
    assert program is not None
    copy.write_text(unit.read_text().replace("/opt/cleave/bin/cleave", program))
    require_clean(analyze, "verify", copy)
    require_clean(analyze, "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", copy)


def test_users_of_the_units_are_made_by_systemd() -> None:
    said = (DEPLOY / "systemd" / "sysusers.conf").read_text()
    for unit in UNITS:
        (user,) = re.findall(r"^User=(.+)$", unit.read_text(), re.MULTILINE)
        assert f"u {user} " in said
    require_clean(tool("systemd-sysusers"), "--dry-run", DEPLOY / "systemd" / "sysusers.conf")


def _without_comments(path: Path) -> str:
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))


def _write_certificate(cert: Path, key: Path) -> None:
    """Of an authority of its own, for a day."""
    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, own.public_key(), x509.random_serial_number())
    lasting = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    signed = lasting.sign(own, hashes.SHA256())
    cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
