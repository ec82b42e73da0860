# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd timers on a controller detect an outage and recover the service.

If the recovery fails, the units raise an alarm.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import runs
from drills import RUNBOOK, STATE_DIR, Drill

DETECT, RECOVER, ALARM = "itsm-outage-detect", "itsm-outage-recover", "itsm-outage-alarm"
BACKUP, READY = "itsm-outage-backup", "itsm-outage-ready"
TIMERS = [f"{DETECT}.timer", f"{BACKUP}.timer", f"{READY}.timer"]
UNITS = [*TIMERS, *(f"{name}.service" for name in (DETECT, RECOVER, ALARM, BACKUP, READY))]
MAINTENANCE = f"{STATE_DIR}/maintenance.json"


def install(drill: Drill, *arguments: str) -> str:
    """Apply the role as an operator would, and return the host line in the Ansible recap."""
    project = drill.output.parents[1]
    done = subprocess.run(
        ["ansible-playbook", "--inventory=molecule/inventory", "molecule/controller_timer/converge.yml", *arguments],
        cwd=project,
        env={**os.environ, "ANSIBLE_CONFIG": str(project / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("controller_timer "))


def journal(drill: Drill, unit: str, *, since: str = "") -> str:
    more = f" --after-cursor='{since}'" if since else ""
    return drill.host.check_output(f"journalctl --no-pager --output=cat --unit={unit}{more}")


def cursor(drill: Drill) -> str:
    """Return the cursor of the last journal entry."""
    shown = drill.host.check_output("journalctl --no-pager --lines=1 --show-cursor --output=cat")
    return shown.rsplit("-- cursor: ", 1)[1].strip()


def alarms(drill: Drill) -> list[str]:
    """Return the journal messages with priority "alert" that were logged since boot."""
    return drill.host.check_output("journalctl --no-pager --output=cat --priority=alert").splitlines()


def serves(drill: Drill) -> bool:
    return drill.ask("https://host:6443/api/v1/health")[0] == 200


def is_quiet(drill: Drill) -> bool:
    """Return True if no recovery is running."""
    return drill.host.run(f"systemctl is-active {RECOVER}.service").stdout.strip() in ("inactive", "failed")


def beside_its_home(seen: dict[str, Any]) -> dict[str, Any]:
    """Return the host state, excluding the files in the home folder of the controller account."""
    files = {path: entry for path, entry in seen["files"].items() if not path.startswith("/var/lib/itsm-outage")}
    return {**seen, "files": files}


def await_look(drill: Drill, word: str) -> str:
    """Wait until a new detection run logs the given text. Return the journal cursor from before the wait."""
    since = cursor(drill)
    runs.wait_for(lambda: word in journal(drill, f"{DETECT}.service", since=since), f"a detection says {word}")
    return since


def test_units_are_valid_and_confined(drill: Drill) -> None:
    paths = [f"/etc/systemd/system/{unit}" for unit in UNITS]
    assert drill.host.check_output(f"systemd-analyze verify {' '.join(paths)} 2>&1") == ""
    for unit in UNITS[len(TIMERS) :]:
        # The exposure level of the unit must be at most 2.0 on a scale from 0 to 10. The option expects tenths.
        drill.host.check_output(f"systemd-analyze security --no-pager --threshold=20 {unit}")


def test_second_installation_changes_nothing(drill: Drill) -> None:
    assert "changed=0 " in install(drill)
    assert "changed=0 " in install(drill, "--check")


def test_healthy_service_is_checked_and_unchanged(drill: Drill) -> None:
    before = drill.now()
    await_look(drill, "HEALTHY")
    await_look(drill, "HEALTHY")
    drill.assert_untouched(beside_its_home(before), beside_its_home(drill.now()))
    assert journal(drill, f"{RECOVER}.service") == ""


def test_runs_have_no_privileges_and_write_to_their_home(drill: Drill) -> None:
    shown = drill.host.check_output(f"systemctl show --property=User,NoNewPrivileges,ProtectSystem {DETECT}.service")
    assert set(shown.split()) == {"User=itsm-outage", "NoNewPrivileges=yes", "ProtectSystem=strict"}
    assert drill.host.file("/var/lib/itsm-outage").mode == 0o700
    assert "drill-github-token" not in drill.host.check_output("journalctl --no-pager")


def test_the_nightly_unit_reports_the_readiness(drill: Drill) -> None:
    assert drill.host.check_output(f"systemctl is-active {READY}.timer") == "active"
    # The drill has no backup yet, so the host is not ready. The unit must not fail because of this result.
    drill.host.check_output(f"systemctl start {READY}.service")
    told = journal(drill, f"{READY}.service")
    assert f"NOT READY: {RUNBOOK.unit} on watched" in told
    assert "there is no backup" in told.lower()
    assert drill.host.file("/var/lib/itsm-outage/.local/state/itsm-runbook/postmortems/readiness.html").mode == 0o600


def test_the_nightly_unit_makes_a_verified_backup(drill: Drill) -> None:
    assert drill.host.check_output(f"systemctl is-active {BACKUP}.timer") == "active"
    drill.host.check_output(f"systemctl start {BACKUP}.service")
    assert ", verified. Copy on another host: none" in journal(drill, f"{BACKUP}.service")
    (made,) = json.loads(drill.host.check_output(f"cat {STATE_DIR}/backups.json"))
    assert made["verified"] and drill.rows_of(made["path"]) == made["rows"]


def test_killed_service_is_recovered_automatically(drill: Drill) -> None:
    runs.kill_service(drill)
    runs.wait_for(lambda: serves(drill) and is_quiet(drill), "the timer recovers the service")
    runs.wait_for(lambda: len(runs.past_incidents(drill)) == 1, "the incident is closed")
    assert runs.past_incidents(drill)[0]["outcome"] == "recovered"
    assert f"RECOVERED: {RUNBOOK.unit} on watched" in journal(drill, f"{RECOVER}.service")
    assert alarms(drill) == []
    drill.assert_every_row_is_there()
    (written,) = drill.host.check_output("find /var/lib/itsm-outage/.local -name 'INC-*.md'").splitlines()
    assert "## 4. Root cause" in drill.host.file(written).content_string


def test_nothing_is_started_during_a_maintenance_window(drill: Drill) -> None:
    await_look(drill, "HEALTHY")
    recoveries = journal(drill, f"{RECOVER}.service")
    drill.host.check_output(
        f"""echo '{{"until": "2099-12-31T09:00:00+09:00", "reason": "Release 4.2"}}' >{MAINTENANCE}"""
    )
    # With the delay in the unit, systemd would restart the service during the maintenance window.
    drill.host.check_output("/opt/drill/bin/restart-after 1h")
    runs.kill_service(drill)
    for _ in range(2):
        await_look(drill, "under maintenance until 2099-12-31T00:00:00.000Z (Release 4.2): this is not an error")
    assert not serves(drill)
    assert (journal(drill, f"{RECOVER}.service"), alarms(drill)) == (recoveries, [])
    drill.host.check_output(f"rm {MAINTENANCE}")
    runs.wait_for(lambda: serves(drill) and is_quiet(drill), "the service is recovered after the maintenance window")
    assert alarms(drill) == []
    drill.host.check_output("/opt/drill/bin/restart-after 10")


def test_alarm_is_raised_once_if_the_service_stays_down(drill: Drill) -> None:
    await_look(drill, "HEALTHY")
    runs.break_start(drill)
    runs.kill_service(drill)
    runs.wait_for(lambda: alarms(drill) != [], "the alarm is raised")
    # Further recovery attempts during the outage do not cause a second alarm.
    since = cursor(drill)
    for _ in range(3):
        await_look(drill, "DOWN: watched")
    assert alarms(drill) == ["100 % of it, $HOME too"]
    runs.repair_start(drill)
    runs.wait_for(lambda: serves(drill) and is_quiet(drill), "the timer recovers the repaired service")
    assert f"RECOVERED: {RUNBOOK.unit} on watched" in journal(drill, f"{RECOVER}.service", since=since)
    assert alarms(drill) == ["100 % of it, $HOME too"]
    drill.assert_every_row_is_there()


def test_removal_leaves_nothing_behind(drill: Drill) -> None:
    install(drill, "--extra-vars=controller_timer_state=absent")
    assert drill.host.check_output("ls /etc/systemd/system | grep -c itsm-outage || true") == "0"
    assert drill.host.check_output("systemctl list-units --all --plain --no-legend 'itsm-outage-*.timer'") == ""
    assert "changed=0 " in install(drill, "--extra-vars=controller_timer_state=absent")
    drill.assert_serves()
