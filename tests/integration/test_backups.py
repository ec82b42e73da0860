# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of the running demo service. The restore_drill drill in molecule/ starts the service from a backup."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from .conftest import Service

BACKUP = "playbooks/outage_backup.yml"


def incidents(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM incidents").fetchone()[0])


def listed(service: Service) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = json.loads((service.state / "backups.json").read_text(encoding="utf-8"))
    return found


def test_a_lost_database_is_restored_from_a_scheduled_backup(service: Service) -> None:
    for number in range(20):
        service.write(f"row {number}")
    rows = incidents(service.database)
    kept = service.folder / "fetched"
    pids = service.pids()
    run = service.play(BACKUP, "-vvv", backup_off_host="fetch", backup_fetch_dir=str(kept), backup_keep=2)
    assert run.rc == 0
    made = listed(service)[0]
    assert made["verified"] and made["rows"]["incidents"] == rows
    copy = kept / "localhost" / os.path.basename(made["path"])
    assert made["off_host"] == f"controller, {copy}" and copy.read_bytes() == Path(made["path"]).read_bytes()
    assert f"Copy on another host: controller, {copy}" in run.screen and '"data": "' not in run.screen
    assert (service.pids(), service.healthy()) == (pids, True)

    service.write("after the backup")
    assert service.play("playbooks/outage_verify.yml").rc == 0
    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    service.database.write_bytes(os.urandom(8192))
    assert service.play("playbooks/outage_recover.yml").rc != 0
    recovered = service.play("playbooks/database_recover.yml")
    assert recovered.rc == 0 and made["path"] in recovered.screen
    assert service.healthy() and incidents(service.database) == rows
    assert f"1 of the {rows + 1} rows in incidents at the last good count" in recovered.screen


def test_old_backups_are_removed_and_a_failed_copy_is_an_error(service: Service) -> None:
    for _number in range(3):
        assert service.play(BACKUP, backup_keep=2).rc == 0
        time.sleep(1)
    assert len(listed(service)) == len(os.listdir(service.state / "backups")) == 2
    program = "import sys; sys.exit('the store is full')"
    command = {"backup_off_host": "command", "backup_off_host_user": service.variables()["nexus_user"]}
    run = service.play(BACKUP, backup_off_host_command=[sys.executable, "-c", program], **command)
    assert run.rc == 2
    assert re.search(r"not copied to another host: \S+ exited with code 1: the store is full", run.screen)
    assert listed(service)[0]["verified"] is True
    assert run.documents(".md") == []


def test_settings_are_validated_before_a_backup(service: Service) -> None:
    run = service.play(BACKUP, backup_off_host="fetch")
    assert run.rc == 2 and "backup_fetch_dir is ''" in run.screen
    run = service.play(BACKUP, backup_keep=1)
    assert run.rc == 2 and "keep must be 2 to 500, not 1" in run.screen
    assert not (service.state / "backups").exists()


def test_check_mode_makes_no_backup(service: Service) -> None:
    assert service.play(BACKUP, "--check", "--diff").rc == 0
    assert not (service.state / "backups.json").exists()


def test_a_restore_drill_needs_systemd(service: Service) -> None:
    run = service.play("playbooks/outage_restore_drill.yml")
    assert run.rc == 2 and "A restore drill needs systemd" in run.screen
    assert not (service.state / "restore_drill.json").exists()
