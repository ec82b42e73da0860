# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups are made under load. A restore drill runs a second instance from a backup while the service runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outside
import pytest
import runs
from drills import STATE_DIR, Drill

ROUNDS = 10 if os.environ.get("DRILL_THOROUGH") else 1
BACKUPS = f"{STATE_DIR}/backups"
KEEP = "backup_keep=3"


class Writer:
    """Creates incidents from another machine, as fast as the service answers, until close() is called."""

    def __init__(self, drill: Drill) -> None:
        address = (drill.output / "address").read_text(encoding="utf-8")
        self._where = (address, int(drill.service.http_port))
        self._ended = threading.Event()
        # (seconds since the epoch, duration of the request, True if the incident was accepted)
        self.done: list[tuple[float, float, bool]] = []
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        body = json.dumps({"title": "Written during a backup", "description": "x" * 2000})
        while not self._ended.is_set():
            begun, accepted = time.time(), False
            connection = http.client.HTTPConnection(*self._where, timeout=10)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/api/v1/incidents", body, {"Content-Type": "application/json"})
                accepted = connection.getresponse().status == 201
            connection.close()
            self.done.append((begun, time.time() - begun, accepted))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture(scope="module")
def client(drill: Drill) -> Iterator[outside.Client]:
    client = outside.Client(drill)
    runs.wait_for(lambda: client.healthy, "the client gets an answer")
    yield client
    client.close()


def backup(drill: Drill, name: str, *arguments: str, rc: int = 0) -> None:
    ended = runs.run(drill, name, f"--extra-vars={KEEP}", *arguments, playbook="outage_backup")
    assert ended == rc, drill.screen(name)


def listed(drill: Drill) -> list[dict[str, Any]]:
    return list(json.loads(drill.host.check_output(f"cat {STATE_DIR}/backups.json")))


def files(drill: Drill) -> list[str]:
    return drill.host.check_output(f"ls {BACKUPS}").split()


def live(drill: Drill) -> dict[str, Any]:
    """Return data that identifies the service process and the database file."""
    database = drill.host.check_output(f"stat --format='%d %i %U %a' {drill.service.database}")
    return {**outside.show(drill, "MainPID", "NRestarts", "ActiveEnterTimestampMonotonic"), "database": database}


def practise(drill: Drill, name: str, *arguments: str, rc: int = 0) -> dict[str, Any]:
    """Run the restore drill and return its result. Assert that the drill left no files behind and changed nothing."""
    before = live(drill)
    ended = runs.run(drill, name, *arguments, playbook="outage_restore_drill")
    assert ended == rc, drill.screen(name)
    assert live(drill) == before
    assert outside.units_of_the_recovery(drill) == ""
    assert drill.host.check_output(f"ls -A {Path(STATE_DIR).parent} | grep -c drill || true") == "0"
    assert drill.host.check_output("ls -d /tmp/systemd-private-*itsm-runbook* 2>/dev/null | wc -l") == "0"
    told = json.loads(drill.host.check_output(f"cat {STATE_DIR}/restore_drill.json"))
    print(f"run: {name}, ok {told['ok']}, RPO {told['rpo_seconds']} s, RTO {told['rto_seconds']} s")
    return dict(told)


def test_a_backup_under_load_is_verified_and_blocks_no_write(drill: Drill, client: outside.Client) -> None:
    writer = Writer(drill)
    try:
        time.sleep(2)
        begun = time.time()
        backup(drill, "under-load")
        ended = time.time()
        time.sleep(1)
    finally:
        writer.close()
    assert all(accepted for _at, _took, accepted in writer.done)
    before = [took for at, took, _accepted in writer.done if at < begun]
    during = [took for at, took, _accepted in writer.done if begun <= at < ended]
    print(
        f"{len(during)} writes during {ended - begun:.1f} s, median {statistics.median(during) * 1000:.0f} ms, "
        f"slowest {max(during):.2f} s; before: median {statistics.median(before) * 1000:.0f} ms"
    )
    assert len(during) > 10 and max(during) < 2
    (made,) = listed(drill)
    assert made["verified"] and made["off_host"] is None
    assert drill.host.check_output(f"sqlite3 {made['path']} 'PRAGMA integrity_check'") == "ok"
    assert drill.rows_of(made["path"]) == made["rows"]
    now = drill.now()["rows"]
    assert drill.observation("sound")["rows"]["incidents"] < made["rows"]["incidents"] < now["incidents"]
    assert drill.host.check_output(f"stat --format='%U %a' {BACKUPS}") == "root 700"
    assert drill.host.check_output(f"stat --format=%a {made['path']}") == "600"


def test_old_backups_are_removed(drill: Drill) -> None:
    drill.host.check_output(f"echo mine > {BACKUPS}/itsm_nexus.db.backup_by_hand")
    for number in range(3):
        backup(drill, f"keep-{number}")
    assert len(listed(drill)) == 3
    assert sorted(files(drill)) == sorted(
        [*(os.path.basename(each["path"]) for each in listed(drill)), "itsm_nexus.db.backup_by_hand"]
    )
    drill.host.check_output(f"rm {BACKUPS}/itsm_nexus.db.backup_by_hand")


def test_the_controller_copies_a_backup(drill: Drill) -> None:
    folder = drill.output / "fetched"
    backup(drill, "fetch", f"--extra-vars=backup_off_host=fetch backup_fetch_dir={folder}", "-vvv")
    made = listed(drill)[0]
    copy = folder / drill.name / os.path.basename(made["path"])
    assert made["off_host"] == f"controller, {copy}"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert drill.host.check_output(f"sha256sum {made['path']}").split()[0] == made["sha256"]
    assert made["sha256"] in drill.host.check_output(f"sha256sum /opt/drill/output/fetched/{drill.name}/{copy.name}")
    # The database rows do not appear on the screen.
    assert '"data": "' not in drill.screen("fetch")


def test_a_command_of_the_site_copies_a_backup(drill: Drill) -> None:
    user = drill.service.user
    drill.host.check_output(f"install -d -o {user} /srv/store")
    command = {"backup_off_host": "command", "backup_off_host_user": user}
    good = {**command, "backup_off_host_command": ["/usr/bin/dd", "of=/srv/store/{name}", "status=none"]}
    backup(drill, "command", f"--extra-vars={json.dumps(good)}")
    made = listed(drill)[0]
    assert made["off_host"] == f"/usr/bin/dd, as {user}"
    assert (
        drill.host.check_output(f"sha256sum /srv/store/{os.path.basename(made['path'])}").split()[0] == made["sha256"]
    )
    bad = {**command, "backup_off_host_command": ["/usr/bin/dd", "of=/root/{name}"]}
    backup(drill, "command-fails", f"--extra-vars={json.dumps(bad)}", rc=2)
    assert "exited with code 1" in drill.screen("command-fails")
    assert listed(drill)[0]["verified"] and listed(drill)[0]["off_host"] is None


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_restore_works_and_the_running_service_is_not_touched(
    drill: Drill, client: outside.Client, number: int
) -> None:
    backup(drill, f"before-{number}")
    begun, made = time.time(), listed(drill)[0]
    told = practise(drill, f"restore-{number}")
    assert told["ok"] and told["problems"] == [], told
    assert (told["backup"], told["backup_at"], told["rows"]) == (made["path"], made["at"], made["rows"])
    age = begun - outside.seconds_of(made["at"])
    assert age <= told["rpo_seconds"] < age + 60
    assert 0 < told["rto_seconds"] < 60
    # The same process answered every request.
    assert client.healthy and client.outages(begun) == []
    assert {table: told["rows_after"][table] for table in made["rows"]} == made["rows"]
    assert "RPO: the backup is" in drill.screen(f"restore-{number}")


def test_the_login_of_the_restored_service_is_checked(drill: Drill) -> None:
    environment = drill.host.check_output(f"cat {drill.service.environment}").splitlines()
    password = dict(line.split("=", 1) for line in environment if "=" in line)["ADMIN_PASSWORD"]
    told = practise(drill, "login", f"--extra-vars=nexus_login_password={password}")
    assert told["ok"] and told["login"] is True
    wrong = practise(drill, "wrong-login", "--extra-vars=nexus_login_password=not-the-password", rc=2)
    assert not wrong["ok"] and wrong["login"] is False
    assert [each["id"] for each in wrong["problems"]] == ["reason.drill.login"]
    assert password not in json.dumps([told, wrong]) + drill.screen("wrong-login")


def test_a_broken_newest_backup_is_reported_and_the_next_one_is_used(drill: Drill) -> None:
    backup(drill, "good")
    good = listed(drill)[0]["path"]
    time.sleep(1)
    backup(drill, "broken")
    broken = listed(drill)[0]["path"]
    drill.host.check_output(f"truncate --size=20480 {broken}")
    told = practise(drill, "next")
    assert told["ok"] and told["backup"] == good
    assert [each["id"] for each in told["problems"]] == ["reason.restore.backup_unusable"]
    assert broken in drill.screen("next")
    # If a run specifies this backup, the run does not fall back to another backup.
    named = practise(drill, "named", f"--extra-vars=restore_drill_backup={broken}", rc=2)
    assert not named["ok"] and named["backup"] is None and named["rto_seconds"] is None


@pytest.mark.parametrize("ignored", [False, True])
def test_a_service_that_cannot_use_the_backup_is_reported(drill: Drill, ignored: bool) -> None:
    """The service fails to start, or it ignores the variable and tries to open the live database."""
    more = ["--extra-vars=nexus_db_path_variable=SOME_OTHER_VARIABLE"] if ignored else []
    if not ignored:
        runs.break_start(drill)
    try:
        told = practise(drill, f"fails-{ignored}", *more, rc=2)
    finally:
        runs.repair_start(drill)
    assert [each["id"] for each in told["problems"]][-1] == "reason.drill.ended", told["problems"]
    expected = "unable to open database file" if ignored else "NEXUS_DEMO_FAULTS=start: the start fails"
    assert expected in drill.screen(f"fails-{ignored}")


def test_the_backups_are_found_by_a_database_recovery(drill: Drill) -> None:
    """The newest backup is still broken, so the recovery uses the second newest backup."""
    broken, good = (each["path"] for each in listed(drill)[:2])
    drill.host.check_output(f"systemctl stop {drill.service.unit}")
    assert runs.run(drill, "plan", "--check", playbook="database_recover") == 0, drill.screen("plan")
    found = " ".join(drill.screen("plan").split())
    assert f"the latest good backup is {good}" in found and f"{broken} cannot be used" in found
