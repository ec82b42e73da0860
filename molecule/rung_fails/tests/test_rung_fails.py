# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A step in a rung fails: the service state does not get worse, and the run makes no false statements.

The drill tests these failures: the login fails or is not checked, the dependencies cannot be built, there is too little
space, and the state folder is read-only.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import runs
from drills import RUNBOOK, STATE_DIR, Drill

APP = RUNBOOK.app
# Maximum duration of the playbook in seconds: 25 if a drill runs alone, and more if parallel drills share the cores.
VERDICT = 25.0 * int(os.environ.get("DRILL_JOBS", "1"))
# Names of the runs without a long step.
TIMED = ("login", "limited", "no-build", "no-room", "read-only")
# If the service answers after a run, the output of the run must not contain these statements.
FALSE = ("still down", "brought the service back", "NOT RECOVERED", "DOWN:")


def fail(drill: Drill) -> None:
    """Kill the service. First remove the records of earlier rounds, because runs would otherwise skip rungs."""
    drill.host.check_output(f"rm -rf {STATE_DIR}/*")
    runs.kill_service(drill)


def recover(drill: Drill, name: str, *arguments: str, rc: int, playbook: str = "outage_recover") -> dict[str, Any]:
    """Run the playbook, which must exit with code `rc`. Return its postmortem."""
    assert runs.run(drill, name, *arguments, playbook=playbook) == rc, drill.screen(name)
    return drill.postmortem(name)


def notified(drill: Drill, contact: str) -> str:
    """Return the messages that the contact has received so far."""
    path = drill.output / f"sent-to-{contact}"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def closing(drill: Drill, name: str) -> str:
    """Return the summary of a run with its wrapped lines joined."""
    screen = drill.screen(name)
    return " ".join(screen[screen.index("PLAY RECAP") :].split())


def page(drill: Drill, name: str) -> str:
    """Return the Markdown document of a run."""
    return drill.documents(name)[0].read_text(encoding="utf-8")


def held(drill: Drill) -> tuple[str, dict[str, int]]:
    """Return the inode of the modules folder, and the row count of each table."""
    return drill.host.check_output(f"stat --format %i {APP}/node_modules"), drill.now()["rows"]


@pytest.fixture(scope="module")
def password(drill: Drill) -> str:
    return drill.host.check_output(f"sed -n s/^ADMIN_PASSWORD=//p {RUNBOOK.environment}")


def test_a_failed_login_is_not_an_outage(drill: Drill, password: str) -> None:
    fail(drill)
    told = recover(drill, "login", "-e", "nexus_login_password=wrong", rc=2)
    drill.assert_serves()
    assert (told["outcome"], told["cause"], told["login"]) == ("login_failed", "killed", "failed")
    assert [(each["rung"], each["held"], each["serves"]) for each in told["rungs_tried"]] == [("restart", False, True)]
    assert told["times"]["mitigated_at"]
    assert told["data_loss"] == "none"
    assert (told["escalation"]["rule"], told["escalation"]["to"]) == ("login_failed", ["project leader"])
    sent = notified(drill, "project_leader")
    assert "is serving, login failed" in sent
    assert notified(drill, "everyone") == ""
    assert "SERVING, LOGIN FAILED" in closing(drill, "login")
    assert "nexus_login_password" in closing(drill, "login")
    for text in (sent, drill.screen("login"), page(drill, "login")):
        assert [words for words in FALSE if words in text] == []

    assert told["rows_after"]["incidents"] >= 3

    # Only a successful login resolves the incident, not a failed or unchecked login.
    for name, given in (("login-again", "wrong"), ("login-unchecked", "")):
        assert runs.run(drill, name, "-e", f"nexus_login_password={given}") == 2
        assert "RESOLVED" not in closing(drill, name)
        assert runs.open_incident(drill) is not None
    assert "RESOLVED" not in notified(drill, "project_leader")
    well = recover(drill, "login-works", "-e", f"nexus_login_password={password}", rc=0)
    assert well["outcome"] == "recovered"
    assert runs.open_incident(drill) is None
    assert "RESOLVED" in notified(drill, "project_leader")


def test_rate_limited_login_is_not_checked(drill: Drill, password: str) -> None:
    drill.host.check_output(f"echo NEXUS_DEMO_FAULTS=on >>{RUNBOOK.environment}")
    fail(drill)
    limited = ("-e", "nexus_login_path=/api/v1/faults/limited", "-e", f"nexus_login_password={password}")
    told = recover(drill, "limited", *limited, rc=0)
    runs.repair_start(drill)
    assert (told["outcome"], told["login"]) == ("recovered", "rate_limited")
    assert "not checked (rate limit)" in closing(drill, "limited")


def assert_on_its_old_modules(
    drill: Drill, told: dict[str, Any], *, name: str, before: tuple[str, dict[str, int]], reason: str
) -> None:
    """Assert that the clean start failed for this reason, and that the service keeps its old modules and all rows."""
    drill.assert_serves()
    assert held(drill) == before
    assert drill.host.run(f"ls -d {APP}/.npm_ci-*").rc != 0
    assert (told["outcome"], told["rung"], told["data_loss"]) == ("recovered", None, "none")
    (rung,) = told["rungs_tried"]
    assert (rung["rung"], rung["held"], rung["restored"]) == ("clean_start_recovery", False, True)
    assert reason in rung["reason"]
    assert reason in closing(drill, name)
    assert "the service is in its previous state" in closing(drill, name)
    assert told["escalation"]["to"] == []


def test_failed_build_keeps_the_old_modules(drill: Drill) -> None:
    before = held(drill)
    # The lock file now lists a package that is not in the npm cache.
    drill.host.check_output(f"cp -p {APP}/package-lock.json /root/package-lock.json")
    lock = json.loads(drill.host.check_output(f"cat {APP}/package-lock.json"))
    package = lock["packages"]["node_modules/express"]
    package.update(resolved="https://registry.npmjs.org/express/-/express-99.9.9.tgz", integrity="sha512-AAAA")
    (drill.output / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    drill.host.check_output(f"cp /opt/drill/output/package-lock.json {APP}/package-lock.json")
    fail(drill)
    told = recover(drill, "no-build", rc=0, playbook="outage_clean_start")
    drill.host.check_output(f"cp -p /root/package-lock.json {APP}/package-lock.json")
    assert_on_its_old_modules(drill, told, name="no-build", before=before, reason="npm ci for")
    # The build is the first step, so no backup was created.
    assert not told["backup_file"]
    for text in (closing(drill, "no-build"), page(drill, "no-build")):
        assert "backed up" not in text


def test_read_only_state_folder_does_not_prevent_a_recovery(drill: Drill) -> None:
    drill.host.check_output(f"rm -rf {STATE_DIR}/* /run/itsm-runbook")
    drill.host.check_output(f"mount --bind {STATE_DIR} {STATE_DIR}")
    drill.host.check_output(f"mount -o remount,bind,ro {STATE_DIR}")
    try:
        runs.kill_service(drill)
        told = recover(drill, "read-only", rc=0)
        drill.assert_serves()
        assert (told["outcome"], told["rung"], told["cause"]) == ("recovered", "restart", "killed")
        assert told["record_in_memory"].startswith("/run/itsm-runbook/")
        assert told["record_in_memory"] in closing(drill, "read-only")
        record = f"{told['record_in_memory']}/incidents/{told['incident']}.json"
        assert json.loads(drill.host.check_output(f"cat {record}"))["outcome"] == "recovered"
        assert drill.host.check_output(f"ls -A {STATE_DIR}") == ""
        # The evidence is in the folder that the summary shows.
        assert not told["evidence"].startswith(STATE_DIR)
        assert drill.host.run(f"test -e {told['evidence']}/manifest.json").rc == 0
        assert told["evidence"] in closing(drill, "read-only")

        # A clean start, which copies the database, also succeeds.
        runs.kill_service(drill)
        clean = recover(drill, "read-only-clean", rc=0, playbook="outage_clean_start")
        assert (clean["outcome"], clean["rung"]) == ("recovered", "clean_start_recovery")
        drill.assert_serves()
    finally:
        drill.host.check_output(f"umount {STATE_DIR}")

    assert runs.run(drill, "home") == 0
    assert {each["id"] for each in runs.past_incidents(drill)} == {told["incident"], clean["incident"]}
    assert drill.host.run("ls /run/itsm-runbook/*/incidents/*").rc != 0


def test_build_without_space_keeps_the_old_modules(drill: Drill) -> None:
    # From now on, the application has a separate file system, which is too small for a second copy of the modules.
    drill.host.check_output("/opt/drill/bin/fill-disk --room 16")
    drill.host.check_output(f"systemctl start {RUNBOOK.unit}")
    runs.wait_for(lambda: drill.ask("https://host:6443/api/v1/health")[0] == 200, "the service answers")
    before = held(drill)
    fail(drill)
    told = recover(drill, "no-room", rc=0, playbook="outage_clean_start")
    assert_on_its_old_modules(drill, told, name="no-room", before=before, reason="Cannot build node_modules")


@pytest.mark.parametrize("name", TIMED)
def test_verdict_is_in_time(drill: Drill, name: str) -> None:
    assert float((drill.output / f"{name}.seconds").read_text(encoding="utf-8")) < VERDICT
