# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""outage_ready.yml reports a good host as READY, finds missing systemd settings, and changes nothing on the host."""

from __future__ import annotations

import json
from typing import Any

import pytest
import runs
from drills import Drill

GUARD = "50-itsm-nexus-start-guard.conf"


def report(drill: Drill, run: str) -> dict[str, Any]:
    """Return the checks for the host, by name."""
    told = json.loads((drill.output / run / "readiness.json").read_text(encoding="utf-8"))
    return {check["id"]: check for check in told["hosts"][0]["checks"]}


def observe(drill: Drill, name: str) -> None:
    drill.host.check_output(f"/opt/drill/bin/observe.py >/opt/drill/output/{name}.json")


def check(drill: Drill, name: str, *arguments: str) -> int:
    """Run the playbook, and assert that it changes no file, no unit and no process."""
    observe(drill, f"{name}-before")
    scratch = drill.host.check_output("ls -a /var/tmp /tmp")
    code = runs.run(drill, name, *arguments, playbook="outage_ready")
    drill.assert_untouched(drill.observation(f"{name}-before"), drill.observation(f"{name}-after"))
    assert drill.host.check_output("ls -a /var/tmp /tmp") == scratch
    return code


@pytest.fixture(scope="module", autouse=True)
def backup(drill: Drill) -> str:
    """Create the backup that the application creates every night."""
    folder = f"{drill.service.app}/backend/backups/daily"
    path = f"{folder}/itsm_nexus_daily_20261129.db"
    drill.host.check_output(f"mkdir -p {folder} && sqlite3 {drill.service.database} '.backup {path}'")
    drill.host.check_output(f"chown -R {drill.service.user}: {drill.service.app}/backend/backups")
    return path


def test_a_good_host_is_ready_and_is_not_changed(drill: Drill, backup: str) -> None:
    assert check(drill, "good") == 0, drill.screen("good")
    assert drill.recap("good")["changed"] == 0
    checks = report(drill, "good")
    verdicts = {name: each["verdict"] for name, each in checks.items()}
    essential = [name for name, each in checks.items() if each["essential"]]
    assert {verdicts[name] for name in essential} <= {"ready", "warning"}
    for name in ("connection", "privileges", "modules", "room", "database", "backup", "restart_policy", "start_limit"):
        assert verdicts[name] == "ready", checks[name]
    assert backup in checks["backup"]["text"]
    assert (verdicts["guard"], verdicts["drill"]) == ("warning", "warning")
    assert f"READY: {drill.service.unit} on {drill.name}" in drill.screen("good")
    drill.assert_serves()


def test_what_systemd_lacks_is_found(drill: Drill) -> None:
    folder = f"/etc/systemd/system/{drill.service.unit}.service.d"
    settings = {
        "90-restart.conf": "[Service]\nRestart=no\nLimitNOFILE=256\n[Unit]\nStartLimitIntervalSec=1\n",
        GUARD: "[Service]\nExecCondition=/usr/local/lib/itsm-nexus-runbook/run.py start_guard x\n",
    }
    drill.host.check_output(f"mkdir -p {folder}")
    for name, text in settings.items():
        drill.host.check_output(f"printf '{text}' >{folder}/{name}".replace("\n", "\\n"))
    # The guard itself is missing. systemd reads the guard drop-in only at the next daemon-reload.
    drill.host.check_output(f"mv {folder}/{GUARD} /root/ && systemctl daemon-reload && mv /root/{GUARD} {folder}/")
    try:
        assert check(drill, "lacking", "--extra-vars=outage_ready_rebuild=false") == 2
    finally:
        drill.host.check_output(f"rm -r {folder} && systemctl daemon-reload")
    checks = report(drill, "lacking")
    assert (checks["restart_policy"]["verdict"], checks["guard"]["verdict"]) == ("not_ready", "not_ready")
    assert "Restart=no" in checks["restart_policy"]["text"]
    assert checks["start_limit"]["verdict"] == "warning"
    assert "only 256 files" in checks["limits"]["text"]
    assert checks["modules"]["verdict"] == "not_checked"


def test_a_unit_that_is_not_started_at_boot_and_an_old_backup_are_found(drill: Drill) -> None:
    every = f"find {drill.service.app}/backend/backups -type f -exec touch"
    drill.host.check_output(f"systemctl disable {drill.service.unit} && {every} -d '4 days ago' {{}} +")
    try:
        assert check(drill, "disabled", "--extra-vars=outage_ready_rebuild=false") == 2
    finally:
        drill.host.check_output(f"systemctl enable {drill.service.unit} && {every} {{}} +")
    checks = report(drill, "disabled")
    assert "at boot" in checks["restart_policy"]["text"]
    assert (checks["backup"]["verdict"], "4 days old" in checks["backup"]["text"]) == ("not_ready", True)
    sent = (drill.output / "sent-to-project_leader").read_text(encoding="utf-8")
    assert f"NOT READY for a recovery: {drill.service.unit} on {drill.name}" in sent
    assert "4 days old" in sent
