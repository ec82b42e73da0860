# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database is damaged during an outage: neither systemd nor a reboot starts the service, and no row is lost.

The drill tests each kind of damage with one delay between the kill and the run, and kills the controller during one
more run. With DRILL_THOROUGH (make nightly), the drill tests each kind of damage with every delay, and kills the
controller during ten runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import outside
import pytest
import runs
from drills import RUNBOOK, STATE_DIR, Drill

THOROUGH = bool(os.environ.get("DRILL_THOROUGH"))
DAMAGES = ("zero", "pages", "deleted")
DELAYS = (0, 3, 6, 9, 11)
# With this delay, systemd has already started the service when the run begins.
SYSTEMD_FIRST = 30
# With this delay, systemd has just started the service process. The process opens the database SLOW seconds later.
JUST_STARTED = 11.5
SLOW = 8
ROUNDS = (
    [*itertools.product(DAMAGES, (*DELAYS, SYSTEMD_FIRST)), ("pages", JUST_STARTED)]
    if THOROUGH
    else [("zero", 3), ("pages", JUST_STARTED), ("deleted", SYSTEMD_FIRST)]
)
KILLS = range(10 if THOROUGH else 1)
# After the kill, the drill waits this many seconds and checks whether systemd starts the service. The value must be at
# least twice the systemd restart delay plus the pause before a unit start.
WATCHED = 120.0 if THOROUGH else 30.0
LEASE = 60.0
# If a run finds that the service is starting, the run must stop the service within this many seconds.
TOO_LATE = 1.0
FOLDER = os.path.dirname(RUNBOOK.database)
DROP_INS = f"/etc/systemd/system/{RUNBOOK.unit}.service.d"
URL = "https://host:6443/api/v1/incidents"


class Round(NamedTuple):
    """A damaged database, and the data that must survive."""

    name: str
    killed_at: float
    # Titles of the incidents that the service acknowledged.
    acknowledged: set[str]
    # Damaged files, by name.
    files: dict[str, str]
    # From this time on, nothing may start the service. On a busy machine, systemd may start the service before the run
    # can prevent the start.
    since: float = 0.0

    def met(self, drill: Drill) -> Round:
        """Return this round. Its `since` is the time after which the run must prevent every start."""
        probed = outside.first_probe(drill, self.killed_at)
        assert probed is not None
        return self._replace(since=probed + TOO_LATE)


@pytest.fixture(scope="module")
def acknowledged(drill: Drill) -> set[str]:
    _, answer = drill.ask(URL)
    return {incident["title"] for incident in answer["incidents"]}


@pytest.fixture(scope="module", autouse=True)
def opened(drill: Drill) -> Iterator[None]:
    """Record which process opens which database file, without using the collection."""
    watch(drill)
    # Record the row counts of the healthy service, as after an installation.
    assert runs.run(drill, "baseline", playbook="outage_verify") == 0
    yield


def watch(drill: Drill) -> None:
    drill.host.check_output(
        f"systemd-run --quiet --unit=watch-opens /opt/drill/bin/watch-opens /opt/drill/output/opens.jsonl {FOLDER}"
    )


def opened_by_node(drill: Drill, since: float) -> list[dict[str, Any]]:
    lines = (drill.output / "opens.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [json.loads(line) for line in lines]
    return [each for each in seen if each["at"] > since and each["exe"] == "node" and "itsm.db" in each["path"]]


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def files_on_host(drill: Drill) -> dict[str, str]:
    """Return the hashes of the database and its WAL. The -shm file is omitted, because a reader may create it."""
    lines = drill.host.check_output(f"sha256sum {FOLDER}/itsm.db {FOLDER}/itsm.db-wal || true").splitlines()
    return {path.rpartition("/")[2]: digest for digest, path in (line.split() for line in lines)}


def titles_in(drill: Drill, folder: str) -> list[str]:
    """Return the incident titles in the database in a folder. The function reads a copy of the database."""
    return json.loads(drill.host.check_output(f"/opt/drill/bin/titles {folder}"))


def put_in_doubt(drill: Drill, name: str, damage: str, acknowledged: set[str]) -> Round:
    """Wait until the service has acknowledged rows that are only in the WAL.

    Then kill the service and damage its database.
    """
    outside.forget_restarts(drill)
    drill.host.check_output("/opt/drill/bin/rows-into-wal")
    runs.wait_for(lambda: drill.ask(URL)[0] == 200, "the service answers")
    for number in range(20):
        title = f"Acknowledged before {name}, number {number}"
        post = f'curl -skf --max-time 5 https://localhost:6443/api/v1/incidents --json \'{{"title": "{title}"}}\''
        assert json.loads(drill.host.check_output(post))["title"] == title
        acknowledged.add(title)
    killed_at = time.time()
    drill.host.check_output(f"/opt/drill/bin/put-in-doubt {damage}")
    return Round(name, killed_at, set(acknowledged), files(drill.output / "damaged"))


def closing(drill: Drill, run: str) -> str:
    screen = drill.screen(run)
    return " ".join(screen[screen.index("OUTAGE SUMMARY") :].split())


def assert_held(drill: Drill, this: Round, incident: str) -> None:
    """Assert that no file has changed, and that the service cannot be started and has not opened its database."""
    assert opened_by_node(drill, this.killed_at) == []
    assert set(outside.unit_events(drill, this.since)) <= {"exited"}
    assert drill.now()["processes"] == []
    assert files_on_host(drill) == this.files
    tried = drill.host.run(f"systemctl start {RUNBOOK.unit}")
    assert tried.rc != 0
    status = drill.host.run(f"systemctl status --no-pager --full {RUNBOOK.unit}").stdout
    assert incident in status and "do not start it" in status, status
    assert drill.host.file(f"{DROP_INS}/zz-held-{incident}.conf").exists
    assert incident in drill.host.file(f"{STATE_DIR}/hold.json").content_string
    assert drill.now()["processes"] == []
    assert files_on_host(drill) == this.files
    assert set(titles_in(drill, FOLDER)) >= this.acknowledged


def assert_handed_over(drill: Drill, this: Round, run: str) -> str:
    """Assert that the run identifies the cause, saves the damaged files and notifies the DBA. Return the incident."""
    told = drill.postmortem(run)
    assert (told["outcome"], told["cause"], told["rung"]) == ("not_recovered", "db_corrupt", None)
    assert told["rungs_tried"] == []
    assert told["data_loss"] == "suspected"
    assert "DBA" in told["escalation"]["to"]
    for words in (f"held by incident {told['incident']}", "DBA", "database_recover.yml"):
        assert words in closing(drill, run)
    for name, digest in this.files.items():
        copy = drill.host.check_output(f"find {told['evidence']} -name {name} -exec sha256sum {{}} +")
        assert digest in copy, name
    record = runs.open_incident(drill)
    assert record["id"] == told["incident"]
    assert record["data"]["state"] == "in_doubt"
    assert record["data"]["reasons"]
    return told["incident"]


def reboot(drill: Drill) -> None:
    runs.wait_for(lambda: not runs.lease(drill)["worker"], "no run is active on the host")
    runs.podman("restart", "--time", "10", drill.container)
    runs.wait_for(
        lambda: drill.host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"), "boot"
    )
    drill.host.check_output(
        "systemctl start ssh.service && hostname --all-ip-addresses | tr -d ' \\n' >/opt/drill/output/address"
    )
    watch(drill)


def recover_the_database(drill: Drill, this: Round) -> None:
    """Run database_recover.yml, and assert that it restores every acknowledged row and releases the hold."""
    # In check mode, the playbook shows which rows each method would lose, and does not release the hold.
    assert runs.run(drill, f"{this.name}-check", "--check", playbook="database_recover") == 0
    assert "WOULD TRY TO RECOVER" in closing(drill, f"{this.name}-check")
    assert drill.host.run(f"ls {STATE_DIR}/hold.json").rc == 0
    name = f"{this.name}-database"
    assert runs.run(drill, name, playbook="database_recover") == 0
    assert drill.postmortem(name)["outcome"] == "recovered"
    drill.assert_serves()
    _, answer = drill.ask(URL)
    titles = titles_in(drill, FOLDER)
    assert set(titles) >= this.acknowledged
    assert answer["total"] == len(titles)
    assert drill.host.run(f"ls {STATE_DIR}/hold.json {DROP_INS}/zz-held-*").stdout == ""
    assert runs.open_incident(drill) is None
    record = runs.past_incidents(drill)[-1]
    assert record["data"]["state"] == "sound"
    assert outside.units_of_the_recovery(drill) == ""
    drill.host.check_output(f"systemctl restart {RUNBOOK.unit}")
    runs.wait_for(lambda: drill.ask(URL)[0] == 200, "the service can be started again")


@pytest.mark.parametrize(("damage", "delay"), ROUNDS)
def test_nothing_starts_the_service(drill: Drill, acknowledged: set[str], damage: str, delay: float) -> None:
    slow = delay == JUST_STARTED
    this = put_in_doubt(drill, f"{damage}-{delay}", damage, acknowledged)
    if slow:
        drill.host.check_output(f"/opt/drill/bin/start-slowly {SLOW}")
    time.sleep(max(0.0, this.killed_at + delay - time.time()))
    assert runs.run(drill, this.name) == 2
    this = this.met(drill)
    if slow:
        assert "started" in outside.unit_events(drill, this.killed_at)
        drill.host.check_output("/opt/drill/bin/start-slowly 0")
    opened = opened_by_node(drill, this.killed_at)
    assert opened or delay != SYSTEMD_FIRST
    if opened:
        # systemd had already started the service when the run reached the host.
        assert opened[0]["at"] < this.since
        assert_known_as_doubtful(drill, this)
        if damage != "pages":
            acknowledged.clear()
        return
    incident = assert_handed_over(drill, this, this.name)
    assert_held(drill, this, incident)

    # Another run has the same outcome. The service remains held before and after a reboot.
    assert runs.run(drill, f"{this.name}-again") == 2
    assert assert_handed_over(drill, this, f"{this.name}-again") == incident
    time.sleep(max(0.0, this.killed_at + WATCHED - time.time()))
    assert_held(drill, this, incident)
    reboot(drill)
    time.sleep(3)
    assert outside.show(drill, "ActiveEnterTimestampMonotonic") == {"ActiveEnterTimestampMonotonic": "0"}
    assert_held(drill, this, incident)
    recover_the_database(drill, this)


def assert_known_as_doubtful(drill: Drill, this: Round) -> None:
    """Assert that a service that has opened the damaged database does not count as recovered and cannot start again."""
    told = drill.postmortem(this.name)
    assert told["outcome"] == "data_in_doubt"
    assert told["data_loss"] == "suspected"
    assert drill.now()["processes"] == []
    assert drill.host.run(f"systemctl start {RUNBOOK.unit}").rc != 0
    assert told["incident"] in drill.host.run(f"systemctl status --no-pager --full {RUNBOOK.unit}").stdout
    assert runs.run(drill, f"{this.name}-again") == 2
    assert drill.postmortem(f"{this.name}-again")["outcome"] == "data_in_doubt"
    if this.name.startswith("pages"):
        recover_the_database(drill, this)
        return
    # Release the hold, as a person would do after a check of the database. The rows are lost, and the drill continues
    # without them.
    reason = "--extra-vars={'outage_release_reason': 'The drill goes on'}"
    assert runs.run(drill, f"{this.name}-release", reason, playbook="outage_release") == 0
    drill.host.check_output(f"systemctl start {RUNBOOK.unit}")


@pytest.mark.parametrize("number", KILLS)
def test_killed_controller_does_not_cause_a_start(drill: Drill, acknowledged: set[str], number: int) -> None:
    # The first run is killed after it has taken over the unit, but before triage holds the service. The dead-man timer
    # must then prevent the service from starting. This test deletes the database, because the test above deletes the
    # database only with a delay after which systemd has started the service. The other runs are killed at a random time
    # after the detection.
    damage, delay = DAMAGES[(number - 1) % len(DAMAGES)], secrets.SystemRandom().uniform(0, 5) if number else 0.0
    this = put_in_doubt(drill, f"kill-{number}-{damage}", damage, acknowledged)
    killed = runs.Run(drill, f"{this.name}-killed", pause_before="" if number else runs.FIRST_RESPONSE)
    if number:
        killed.reach("Open an incident or continue the open incident")
    else:
        killed.pause()
    time.sleep(delay)
    print(f"{damage}, killed {delay:.3f} s after the detection")
    killed.kill()
    this = this.met(drill)
    # If the controller is killed, a module that is running on the host continues.
    runs.wait_for(lambda: drill.host.run("pgrep -f 'echo BECOME-SUCCES[S]'").rc != 0, "its last module ends")
    # With an undamaged database, the host itself would start the service when the lease expires.
    time.sleep(LEASE + 15 if THOROUGH else 15)
    if not THOROUGH:
        runs.lease(drill, "--age", str(LEASE))
    assert opened_by_node(drill, this.killed_at) == []
    assert files_on_host(drill) == this.files

    assert runs.run(drill, f"{this.name}-next") == 2
    assert_held(drill, this, assert_handed_over(drill, this, f"{this.name}-next"))
    recover_the_database(drill, this)


def test_person_releases_the_hold_with_a_reason(drill: Drill, acknowledged: set[str]) -> None:
    this = put_in_doubt(drill, "release", "zero", acknowledged)
    assert runs.run(drill, this.name) == 2
    this = this.met(drill)
    incident = assert_handed_over(drill, this, this.name)
    assert runs.run(drill, "release-without", playbook="outage_release") != 0
    assert_held(drill, this, incident)
    reason = "The rows were entered by hand elsewhere"
    assert (
        runs.run(
            drill, "release-with", f"--extra-vars={{'outage_release_reason': '{reason}'}}", playbook="outage_release"
        )
        == 0
    )
    assert drill.host.run(f"ls {STATE_DIR}/hold.json {DROP_INS}/zz-held-*").stdout == ""
    record = runs.open_incident(drill)
    assert record["id"] == incident
    assert reason in json.dumps(record)
    assert (record["data"]["state"], record["data"]["accepted"]) == ("accepted", ["empty_beside_wal"])
    drill.host.check_output(f"systemctl start {RUNBOOK.unit}")

    # The person accepted the loss of rows, but not the damage that occurs later in the same incident.
    acknowledged.clear()
    later = put_in_doubt(drill, "after-release", "pages", acknowledged)
    assert runs.run(drill, later.name) == 2
    later = later.met(drill)
    assert assert_handed_over(drill, later, later.name) == incident
    assert_held(drill, later, incident)
