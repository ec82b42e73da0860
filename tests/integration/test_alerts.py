# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus's own tools accept the example configuration, and an alert from a real Alertmanager starts a recovery."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml
from tcp_ports import free_port

from .conftest import ROOT, Service
from .test_rulebooks import TOKEN, awaiting_alerts

EXAMPLES = ROOT / "extensions" / "eda" / "prometheus"
TOOLS = ROOT / "tests" / "monitoring"


@contextlib.contextmanager
def serving(log: Path, port: int, *command: Any) -> Iterator[None]:
    """Run a server during the block, which begins as soon as the server listens."""
    with log.open("wb") as stream:
        process = subprocess.Popen([TOOLS, *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        give_up = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=5):
                break
            assert process.poll() is None and time.monotonic() < give_up, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def run(*command: Any) -> str:
    """Run one of Prometheus's tools to completion, and return its output."""
    done = subprocess.run([TOOLS, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_follow_the_runbook() -> None:
    run("promtool", "check", "config", EXAMPLES / "prometheus.yml")
    assert "SUCCESS" in run("promtool", "test", "rules", "tests/integration/alerts.yml")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["itsm_host=app.one", "severity=warning"], "runbook,people"),
        (["itsm_host=app.one", "severity=critical"], "runbook,people"),
        (["itsm_host=app.one", "severity=emergency"], "runbook,people"),
        (["itsm_host=app.one", "severity=unknown"], "people"),
        (["severity=critical"], "people"),
    ],
)
def test_route_sends_the_alerts_that_the_rulebook_handles(labels: list[str], receivers: str) -> None:
    config = f"--config.file={EXAMPLES / 'alertmanager.yml'}"
    assert run("amtool", "config", "routes", "test", config, *labels).strip() == receivers


def test_blackbox_exporter_agrees_with_the_module(service: Service) -> None:
    port = free_port()
    target = f"https://127.0.0.1:{service.https_port}/api/v1/health"
    query = urllib.parse.urlencode({"module": "itsm_health", "target": target})

    def success() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/probe?{query}", timeout=20) as answer:
            return next(line for line in answer.read().decode().splitlines() if line.startswith("probe_success"))

    with serving(
        service.folder / "exporter.log",
        port,
        "prometheus-blackbox-exporter",
        f"--config.file={EXAMPLES / 'blackbox.yml'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ):
        assert success() == "probe_success 1"
        service.kill()
        assert success() == "probe_success 0"


def test_an_alert_of_alertmanager_starts_a_recovery(service: Service) -> None:
    port = free_port()
    with awaiting_alerts("itsm_nexus.runbook.alertmanager", service) as alerts:
        config = yaml.safe_load((EXAMPLES / "alertmanager.yml").read_text(encoding="utf-8"))
        (hook,) = config["receivers"][1]["webhook_configs"]
        hook["url"] = hook["url"].replace(":5050/", f":{alerts.port}/")
        token = service.folder / "token"
        token.write_text(TOKEN, encoding="utf-8")
        hook["http_config"]["authorization"]["credentials_file"] = str(token)
        written = service.folder / "alertmanager.yml"
        written.write_text(yaml.safe_dump(config), encoding="utf-8")
        with serving(
            service.folder / "alertmanager.log",
            port,
            "prometheus-alertmanager",
            f"--config.file={written}",
            f"--storage.path={service.folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ):
            service.kill()
            told = [
                {"labels": {"alertname": f"Itsm{severity}", "severity": severity, "itsm_host": "localhost"}}
                for severity in ("emergency", "critical", "warning", "unknown")
            ]
            # Prometheus sends an active alert more than once.
            for _ in range(3):
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/api/v2/alerts",
                    json.dumps(told).encode(),
                    {"Content-Type": "application/json"},
                )
                urllib.request.urlopen(request, timeout=20).close()
                time.sleep(0.2)
            alerts.rulebook.await_recoveries(1)
            alerts.rulebook.await_ends(1)
            assert alerts.rulebook.called() == (1, 0)
