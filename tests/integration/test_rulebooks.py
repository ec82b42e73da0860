# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-rulebook runs the rulebooks against the demo service.

The tests check which playbooks are started, how often and why.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterator

import yaml
from tcp_ports import free_port

from .conftest import ROOT, Service
from .test_recovery import installed

RULEBOOKS = ROOT / "extensions" / "eda" / "rulebooks"
# The token consists of digits, so that the test fails if a template converts it to a number.
TOKEN = "4711471147114711"
# Timeout in seconds. Even on a busy machine, every expected event happens sooner.
PATIENCE = 180.0
# Settings for the watch: seconds between probes, and the number of consecutive healthy probes that end an outage.
INTERVAL = 0.3
RESTORED_AFTER = 4


def wait_for(condition: Callable[[], bool], what: str, rulebook: Rulebook) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert rulebook.process.poll() is None, f"ansible-rulebook has exited\n{rulebook.screen()}"
        assert time.monotonic() < give_up, f"timed out: {what}\n{rulebook.screen()}"
        time.sleep(0.1)


@dataclasses.dataclass
class Rulebook:
    """A running rulebook."""

    service: Service
    log: Path
    process: subprocess.Popen[bytes]

    def screen(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def called(self) -> tuple[int, int]:
        """Return the numbers of recoveries and of triage runs that the rules have requested, including queued runs."""
        matches = re.findall(r"callback calling (.*)", self.screen())
        return sum("recovery" in rule or "gone" in rule for rule in matches), sum(
            "triage" in rule or "Three" in rule for rule in matches
        )

    def incidents(self) -> list[dict[str, Any]]:
        """Return the records of closed incidents, oldest first."""
        kept = sorted((self.service.state / "incidents").glob("*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in kept]

    def await_ends(self, number: int) -> None:
        """Wait until `number` runs have ended."""
        wait_for(lambda: self.screen().count("PLAY RECAP") >= number, f"{number} runs end", self)

    def await_recoveries(self, number: int) -> None:
        """Wait until `number` incidents are closed and the service is healthy.

        Assert that every outage was recovered.
        """
        wait_for(lambda: len(self.incidents()) >= number, f"{number} incidents are closed", self)
        wait_for(self.service.healthy, "the service is well", self)
        assert [each["outcome"] for each in self.incidents()] == ["recovered"] * number


@contextlib.contextmanager
def running(
    rulebook: str | Path, service: Service, variables: dict[str, Any], *arguments: str, project: Path = ROOT
) -> Iterator[Rulebook]:
    """Run a rulebook during the block, as docs/eda.md describes. project: the folder with ansible.cfg."""
    inventory = service.folder / "inventory.yml"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **service.variables()}
    inventory.touch(mode=0o600)
    inventory.write_text(yaml.safe_dump({"itsm_nexus": {"hosts": {"localhost": host}}}), encoding="utf-8")
    settings = service.folder / "rulebook.yml"
    settings.touch(mode=0o600)
    settings.write_text(yaml.safe_dump(variables), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment |= {
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(project / "ansible.cfg"),
        "ITSM_NEXUS_POSTMORTEM_DIR": str(service.folder / "postmortems"),
    }
    log = service.folder / "rulebook.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["ansible-rulebook", "--rulebook", rulebook, "--vars", settings, "-vv", *arguments],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Rulebook(service, log, process)
    try:
        wait_for(lambda: "Waiting for actions on events" in started.screen(), "it starts", started)
        yield started
    finally:
        print(started.screen())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def by_playbook(service: Service) -> list[str]:
    return ["--inventory", str(service.folder / "inventory.yml")]


# The watch


def watching(service: Service) -> dict[str, Any]:
    """Return the variables for a rulebook that watches the service on this machine."""
    url = f"https://127.0.0.1:{service.https_port}/api/v1/health"
    process = {
        "manager": "process",
        "app_dir": str(service.app),
        "command": ["node", "backend/server.js"],
        "user": service.variables()["nexus_user"],
    }
    target = {
        "host": "localhost",
        "endpoints": [{"name": "https", "url": url}],
        "process": process,
        "state_dir": str(service.state),
    }
    return {
        "watch_interval": INTERVAL,
        "watch_timeout": 1.0,
        "watch_restored_after": RESTORED_AFTER,
        "watch_targets": [target],
    }


def test_watch_starts_exactly_one_recovery_per_outage(service: Service) -> None:
    with running("itsm_nexus.runbook.watch", service, watching(service), *by_playbook(service)) as watch:
        # Wait until the watch has found the service healthy.
        time.sleep(2 * INTERVAL)

        # The service flaps, and nothing is started.
        requests = service.log.read_text(encoding="utf-8")
        for _ in range(2):
            service.signal(signal.SIGSTOP)
            # One or two probes time out, but not three.
            time.sleep(1.5)
            service.signal(signal.SIGCONT)
            time.sleep(3 * INTERVAL)
        assert service.log.read_text(encoding="utf-8") != requests
        assert watch.called() == (0, 0)

        # The service is killed. This starts one recovery.
        service.kill()
        ended(watch, recoveries=1, triages=0)

        # The service hangs. This starts triage and then a recovery.
        service.signal(signal.SIGSTOP)
        ended(watch, recoveries=2, triages=1)
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in service.postmortems.glob("*.json")]
        (hung,) = (each for each in documents if each["cause"] == "hung")
        # The recovery's probes have already timed out, so triage does not wait long for a response.
        found = json.loads(Path(hung["evidence"], "triage.json").read_text(encoding="utf-8"))
        assert found["facts"]["answer"]["https"]["seconds"] < 2

        # The service is killed during a maintenance window, and nothing is started until the window ends.
        maintenance = service.state / "maintenance.json"
        maintenance.write_text('{"until": "2099-12-31T00:00:00Z", "reason": "Release 4.2"}', encoding="utf-8")
        service.kill()
        wait_for(lambda: "under maintenance until 2099-12-31T00:00:00.000Z" in watch.screen(), "it is told", watch)
        time.sleep(10 * INTERVAL)
        assert watch.called() == (2, 1)
        assert not service.healthy()
        maintenance.unlink()
        ended(watch, recoveries=3, triages=1)
        assert [each["severity"] for each in watch.incidents()] == ["emergency", "critical", "emergency"]


def ended(watch: Rulebook, *, recoveries: int, triages: int) -> None:
    """Wait until all outages have ended, and assert that no other run was requested."""
    watch.await_recoveries(recoveries)
    watch.await_ends(recoveries + triages)
    # After this time, the watch would report the next failure as a new outage.
    time.sleep((RESTORED_AFTER + 4) * INTERVAL)
    assert watch.called() == (recoveries, triages)


def test_watch_of_an_installed_collection_uses_that_collection(service: Service, tmp_path: Path) -> None:
    project = installed(tmp_path / "prefix")
    variables, inventory = watching(service), by_playbook(service)
    with running("itsm_nexus.runbook.watch", service, variables, *inventory, project=project) as watch:
        service.kill()
        watch.await_recoveries(1)
        assert f"Loading rulebook from {project}" in watch.screen()


# Alerts


def alert(name: str = "ItsmNexusDown", **changes: Any) -> dict[str, Any]:
    labels = {"alertname": name, "severity": "critical", "itsm_host": "localhost", **changes.pop("labels", {})}
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "{{ lookup('pipe', 'touch /tmp/never') }}"},
        "startsAt": "2026-03-02T01:02:03.456Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "0123456789abcdef",
        **changes,
    }


def post(port: int, *alerts: dict[str, Any], token: str | None = TOKEN) -> int:
    """Post alerts as an Alertmanager does, and return the HTTP status."""
    body = {"version": "4", "receiver": "runbook", "status": "firing", "groupLabels": {}, "alerts": alerts}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@dataclasses.dataclass
class Alerts:
    """A rulebook that waits for alerts, and its address."""

    rulebook: Rulebook
    port: int


@contextlib.contextmanager
def awaiting_alerts(rulebook: str | Path, service: Service) -> Iterator[Alerts]:
    port = free_port()
    variables = {"alertmanager_port": port, "alertmanager_token": TOKEN}
    with running(rulebook, service, variables, *by_playbook(service)) as started:
        yield Alerts(started, port)


# With each of these values, --limit would select several hosts or no host.
NO_HOST = (
    *(
        "all",
        "ungrouped",
        "*",
        "local*",
        "all:!localhost",
        "localhost,two",
        "~.*",
        "&all",
        "local[a-z]ost",
        "@/etc/passwd",
    ),
    *("", " localhost", "localhost\n", "-i", "{{ 7 * 7 }}", "\x1b[2Jlocalhost", "a" * 254),
)


def test_only_alerts_for_one_host_start_a_run_and_fifty_alerts_start_one_run(service: Service) -> None:
    with awaiting_alerts("itsm_nexus.runbook.alertmanager", service) as alerts:
        service.kill()
        refuse_requests_without_the_token(alerts)
        assert post(alerts.port, alert(status="resolved"), alert(labels={"severity": "none"})) == 200
        report_alerts_that_do_not_name_one_host(alerts)
        time.sleep(2)
        assert alerts.rulebook.called() == (0, 0)

        end_runs_for_a_group_or_an_unknown_host(alerts)
        time.sleep(2)
        assert alerts.rulebook.called() == (2, 2)
        assert "TASK [" not in alerts.rulebook.screen()
        assert alerts.rulebook.incidents() == []
        assert not service.healthy()

        post_fifty_alerts(alerts)
        alerts.rulebook.await_recoveries(1)
        alerts.rulebook.await_ends(1)
        time.sleep(5)
        assert alerts.rulebook.called() == (3, 2)


def refuse_requests_without_the_token(alerts: Alerts) -> None:
    for token in (None, "", "0", TOKEN[:-1], f"{TOKEN}1"):
        assert post(alerts.port, alert(), token=token) == 401


def report_alerts_that_do_not_name_one_host(alerts: Alerts) -> None:
    for severity in ("critical", "warning"):
        for host in NO_HOST:
            assert post(alerts.port, alert(labels={"itsm_host": host, "severity": severity})) == 200
    unnamed = alert()
    del unnamed["labels"]["itsm_host"]
    assert post(alerts.port, unnamed) == 200

    def rejected() -> int:
        return alerts.rulebook.screen().count('Alert rejected, nothing was started: the label itsm_host is "')

    # One rejected alert per minute is reported for each value of the label. A missing label counts as a value.
    wait_for(lambda: rejected() >= len(NO_HOST) + 1, "all are reported", alerts.rulebook)
    screen = alerts.rulebook.screen()
    assert 'the label itsm_host is "all".' in screen
    assert r'the label itsm_host is "\u001b[2Jlocalhost".' in screen


def end_runs_for_a_group_or_an_unknown_host(alerts: Alerts) -> None:
    for severity in ("critical", "warning"):
        for host in ("itsm_nexus", "nobody"):
            assert post(alerts.port, alert(labels={"itsm_host": host, "severity": severity})) == 200

    def told(text: str) -> None:
        # The recovery and the triage print the text, and the rulebook repeats the errors from each run.
        wait_for(lambda: " ".join(alerts.rulebook.screen().split()).count(text) == 4, text, alerts.rulebook)

    told("--limit 'itsm_nexus' is a group of the inventory: nothing was done.")
    told("Could not match supplied host pattern, ignoring: nobody")


def post_fifty_alerts(alerts: Alerts) -> None:
    """Post fifty different alerts for the same host at the same time."""
    different = [
        alert(f"Alert{number % 5}", startsAt=f"2026-03-02T01:02:03.{number:03}Z", fingerprint=f"{number:016}")
        for number in range(50)
    ]
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(50) as posters:
        assert set(posters.map(lambda each: post(alerts.port, each), different)) == {200}
    assert time.monotonic() - begun < 5


def test_alert_may_start_a_run_again_after_its_interval(service: Service) -> None:
    text = (RULEBOOKS / "alertmanager.yml").read_text(encoding="utf-8")
    # Two rules start runs, and one rule reports rejected alerts.
    assert text.count("once_within: 1 minute\n") == 3
    quicker = service.folder / "quicker.yml"
    quicker.write_text(text.replace("once_within: 1 minute\n", "once_within: 2 seconds\n"), encoding="utf-8")
    with awaiting_alerts(quicker, service) as alerts:
        for number in (1, 2):
            time.sleep(2.5 * (number - 1))
            service.kill()
            assert post(alerts.port, alert(labels={"severity": "warning"})) == 200
            assert post(alerts.port, alert()) == 200
            alerts.rulebook.await_recoveries(number)
            alerts.rulebook.await_ends(2 * number)
            assert alerts.rulebook.called() == (number, number)
