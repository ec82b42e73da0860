# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sixty hosts in one run: failed services are recovered, and no host waits for a hanging or unreachable host."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import socket
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml
from tcp_ports import free_port

from .conftest import ROOT, Run, Service, assert_as_documented, on_screen

HOSTS = [f"itsm-{number:02}.example.com" for number in range(1, 61)]
BROKEN, UNREACHABLE, HANGING, HEALTHY = HOSTS[:4], HOSTS[4:6], HOSTS[6], HOSTS[7:]
# Time in seconds after which the run stops waiting for the hanging host. All other hosts finish much earlier.
PATIENCE = 120


_CLONE_NEWNS, _MS_REC_PRIVATE = 0x00020000, (1 << 14) | (1 << 18)


class HangingDisk:
    """A file system that never answers.

    If a process uses this file system, it hangs in the kernel until close() is called.

    The file system is a FUSE mount whose server never answers. Only the process that calls mount() and its children see
    the mount. Other processes see an empty folder. REAL is False if this user is not allowed to mount file systems.
    """

    REAL = os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() == 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._server = os.open("/dev/fuse", os.O_RDWR) if self.REAL else None

    def _apart(self) -> None:
        if self._libc.unshare(_CLONE_NEWNS) != 0 or self._libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) != 0:
            raise OSError(ctypes.get_errno(), "no mounts of our own")

    def mount(self) -> None:
        """Mount the file system for this forked process and its children."""
        if self._server is None:
            return
        self._apart()
        options = f"fd={self._server},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
        if self._libc.mount(b"hanging", os.fsencode(self.folder), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), f"cannot mount at {self.folder}")

    def close(self) -> None:
        """Close the server. Processes that are still waiting for the server receive an error."""
        if self._server is not None:
            os.close(self._server)


@dataclasses.dataclass
class Fleet:
    """Sixty hosts. Each broken host has its own service, and all other hosts share one service."""

    folder: Path
    inventory: dict[str, Any]
    services: dict[str, Service]

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        hosts = self.folder / "hosts.yml"
        hosts.write_text(yaml.safe_dump({"itsm_nexus": {"hosts": self.inventory}}), encoding="utf-8")
        postmortems = self.folder / "postmortems"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment.update(LC_ALL="C.UTF-8", ITSM_NEXUS_POSTMORTEM_DIR=str(postmortems), ANSIBLE_SHOW_CUSTOM_STATS="1")
        handed = {"outage_recover_unreachable_dir": str(self.folder / "unreachable"), **variables}
        command = ["ansible-playbook", "-i", hosts, "-f", "20", f"playbooks/{playbook}.yml", *arguments]
        with contextlib.closing(HangingDisk(self.folder / "disk")) as disk:
            argv = [*command, "-e", json.dumps(handed)]
            done = on_screen(argv, cwd=ROOT, env=environment, timeout=1200, preexec_fn=disk.mount)
        return Run(rc=done.returncode, screen=done.stdout, postmortems=postmortems)


def published(run: Run) -> dict[str, Any]:
    """Return the values that the run published with set_stats."""
    (line,) = (line for line in run.screen.splitlines() if line.startswith("\tRUN: "))
    values = dict(json.loads(line.removeprefix("\tRUN: ")))
    assert_as_documented(values)
    return values


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, template: Service) -> Iterator[dict[str, Service]]:
    folder = tmp_path_factory.mktemp("services")
    with contextlib.ExitStack() as stack:
        laid = {name: Service(folder / name) for name in [*BROKEN, "shared"]}
        for service in laid.values():
            service.folder.mkdir()
            service.install_copy(template)
            stack.callback(service.kill)
            service.start()
            service.write("row")
        yield laid


@pytest.fixture
def fleet(services: dict[str, Service], tmp_path: Path) -> Iterator[Fleet]:
    inventory: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        disk = tmp_path / "disk"
        disk.mkdir()
        # The first port refuses connections. The second port accepts connections but never answers, like a hanging
        # host.
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ports = [free_port(), silent.getsockname()[1]]
        for name in HOSTS:
            service = services.get(name, services["shared"])
            inventory[name] = {
                **service.variables(),
                "nexus_state_dir": str(tmp_path / "state" / name),
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            }
        for name, port in zip(UNREACHABLE, ports):
            inventory[name].update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=port)
        # The entire host hangs: no program can be started on it.
        inventory[HANGING].update(ansible_python_interpreter=str(disk / "python"), detection_deadline=PATIENCE)
        if not HangingDisk.REAL:
            blocking = tmp_path / "blocking-python"
            blocking.write_text("#!/bin/sh\nexec sleep 3600\n", encoding="utf-8")
            blocking.chmod(0o755)
            inventory[HANGING]["ansible_python_interpreter"] = str(blocking)
        yield Fleet(tmp_path, inventory, services)


def test_broken_hosts_are_recovered_without_waiting(fleet: Fleet) -> None:
    rows = {name: fleet.services[name].request("/incidents")["total"] for name in BROKEN}
    for name in BROKEN:
        fleet.services[name].kill()
    shared = fleet.services["shared"].pids()

    run = fleet.play("outage_recover")

    assert run.rc == 2
    for name in BROKEN:
        assert fleet.services[name].healthy()
        assert fleet.services[name].request("/incidents")["total"] == rows[name]
    assert fleet.services["shared"].pids() == shared

    # The outcome is reported in the artifacts, on the screen and in the postmortems.
    artifacts = published(run)
    assert artifacts["outage_summary"] == {
        "hosts": 60,
        "healthy": HEALTHY,
        "recovered": BROKEN,
        "recovered_by_systemd": [],
        "would_recover": [],
        "warning": [],
        "degraded": [],
        "data_in_doubt": [],
        "login_failed": [],
        "not_recovered": [],
        "unreachable": [*UNREACHABLE, HANGING],
        "stopped": [],
    }
    outcomes = artifacts["outage_recover"]
    assert sorted(outcomes) == sorted([*BROKEN, *UNREACHABLE, HANGING])
    lost = [outcomes[name] for name in [*UNREACHABLE, HANGING]]
    assert {(each["outcome"], each["severity"], each["cause"]) for each in lost} == {("unreachable",) * 3}
    assert all(each["escalation"]["rule"] == "unreachable" and each["escalation"]["to"] for each in lost)
    assert f"within {PATIENCE} s" in outcomes[HANGING]["error"]
    end = run.screen[run.screen.rindex("60 HOSTS: 53 healthy, 4 recovered, 3 unreachable") :]
    assert re.search(rf"unreachable +{' '.join(UNREACHABLE)}\s+{HANGING}", end)
    assert all(name in end for name in BROKEN) and not any(name in end for name in HEALTHY)
    told = {each["host"]: each for each in (json.loads(path.read_text("utf-8")) for path in run.documents(".json"))}
    assert {host: each["outcome"] for host, each in told.items()} == {
        host: each["outcome"] for host, each in outcomes.items()
    }
    assert {told[name]["rung"] for name in BROKEN} == {"restart"}

    # No other host waited for the hanging host. All others had finished before the run stopped waiting for it.
    (timeline,) = run.documents(".jsonl")
    events = [json.loads(line) for line in timeline.read_text("utf-8").splitlines()]
    given_up = next(
        event["at"] for event in events if event.get("host") == HANGING and event.get("data", {}).get("severity")
    )
    verdicts = {event["host"]: event["at"] for event in events if event["kind"] == "outcome"}
    assert all(verdicts[name] < given_up for name in [*BROKEN, *UNREACHABLE])


def test_a_lost_host_is_reported_once_and_again_when_it_is_back(fleet: Fleet, tmp_path: Path) -> None:
    (lost,), log = UNREACHABLE[:1], tmp_path / "told"
    contacts = {
        "project_leader": {
            "name": "project leader",
            "channels": [{"type": "command", "argv": ["tee", "-a", str(log)], "input": "text"}],
        },
        "dba": "DBA",
        "everyone": "the whole team",
    }
    for _ in range(2):
        run = fleet.play("outage_recover", "--limit", lost, escalation_contacts=contacts)
        assert run.rc == 2 and "UNREACHABLE" in run.screen
        assert log.read_text("utf-8").count("cannot be reached or does not answer") == 1
    # There is one incident, and one document describes it.
    (document,) = run.documents(".json")
    assert len(json.loads(document.read_text("utf-8"))["runs"]) == 2

    fleet.inventory[lost]["ansible_connection"] = "local"
    back = fleet.play("outage_recover", "--limit", lost, escalation_contacts=contacts)
    assert back.rc == 0
    said = log.read_text("utf-8")
    again = fleet.play("outage_recover", "--limit", lost, escalation_contacts=contacts)
    assert again.rc == 0 and log.read_text("utf-8") == said
    assert said.count("cannot be reached or does not answer") == 1 and len(said.splitlines()) > 1


@pytest.mark.parametrize(
    ("strategy", "serial", "killed"),
    [("host_pinned", [1], BROKEN[2:3]), ("linear", [1, 2], BROKEN[1:3])],
    ids=["host_pinned", "linear"],
)
def test_next_batches_run_after_a_batch_of_lost_hosts(
    fleet: Fleet, strategy: str, serial: list[int], killed: list[str]
) -> None:
    # Batches follow the order of the inventory, so the lost host must be the first one.
    lost, *others = BROKEN[:3]
    fleet.inventory[lost].update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=free_port())
    for name in killed:
        fleet.services[name].kill()
    run = fleet.play(
        "outage_recover",
        "--limit",
        ",".join([lost, *others]),
        outage_recover_serial=serial,
        outage_recover_strategy=strategy,
    )
    assert run.rc == 2
    summary = published(run)["outage_summary"]
    healthy = [name for name in others if name not in killed]
    assert [summary[key] for key in ("hosts", "healthy", "recovered", "unreachable")] == [3, healthy, killed, [lost]]
    assert all(fleet.services[name].healthy() for name in killed)
    if strategy == "linear":
        # Both hosts in the second batch are recovered by the same task. If each host had a separate task, one host
        # would wait for the other.
        assert run.screen.count(": Start or stop the service] ***") == 1


def test_detection_lists_hosts_that_are_down_and_hosts_that_are_unreachable(fleet: Fleet, tmp_path: Path) -> None:
    fleet.services[BROKEN[0]].kill()
    if HangingDisk.REAL:
        # Only the service's file system hangs.
        python = "{{ ansible_playbook_python }}"
        fleet.inventory[HANGING].update(ansible_python_interpreter=python, nexus_app_dir=str(tmp_path / "disk" / "app"))
    else:
        fleet.inventory[HANGING]["detection_deadline"] = 20
    # If a setting is invalid for one host, the run ends only for this host.
    fleet.inventory[HEALTHY[0]]["outage_recover_serial"] = "abc"
    # SSH waits three seconds for the host that accepts connections but never answers.
    run = fleet.play("outage_detect", "--limit", ",".join(HOSTS[:12]), "-T", "3")
    assert run.rc == 2
    artifacts = published(run)
    assert artifacts["outage_summary"] == {
        "hosts": 12,
        "healthy": [*BROKEN[1:], *HEALTHY[1:5]],
        "degraded": [],
        "warning": [],
        "critical": [],
        "emergency": [BROKEN[0]],
        "unreachable": [*UNREACHABLE, HANGING],
        "stopped": [HEALTHY[0]],
    }
    assert artifacts["outage_detect"][HANGING]["severity"] == "unreachable"
    assert "12 HOSTS: 7 healthy, 1 emergency, 3 unreachable, 1 stopped by an error" in run.screen
