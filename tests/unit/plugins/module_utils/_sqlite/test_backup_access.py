# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's user cannot choose which of root's backups is restored to the database.

The user can set DATABASE_PATH, replace the database with garbage, and create links in its own folder.
"""

from __future__ import annotations

import os
import pwd
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import pytest
from sqlite_samples import closed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import (
    choice,
    drill,
    drill_order,
    listing,
    retention,
    scheduled,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import backups as report
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access, candidates
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError

NOBODY, DAEMON = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
TIME = "20260302T010203Z"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges that could be abused")


class Site:
    """A hostile service with a damaged database (in the inventory: backend/itsm.db), and a root-owned backup folder."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.backend, self.own = top / "app" / "backend", top / "app" / "backups"
        self.shared, self.state = top / "shared", top / "state"
        for folder in (self.backend, self.own, self.shared, self.state):
            folder.mkdir(parents=True)
        for folder in (top / "app", self.backend, self.own):
            give(folder)
        for folder in (self.shared, self.state):
            folder.chmod(0o700)
        self.configured = str(self.backend / "itsm.db")

    def garbage(self, name: str) -> str:
        """Create an unreadable database, whose tables and first migration cannot be determined."""
        path = self.backend / name
        path.write_bytes(b"\xa5" * 8192)
        give(path)
        return str(path)

    def backup(self, folder: Path, name: str, *, mode: int = 0o600, owner: Optional[pwd.struct_passwd] = None) -> str:
        path = folder / name
        closed(str(path))
        path.chmod(mode)
        if owner is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid)
        return str(path)

    def restore(self, path: str, *, act: bool = False, **more: Any) -> Dict[str, Any]:
        given: Dict[str, Any] = {"configured_path": self.configured, "owner": "nobody", **more}
        return sqlite_restore.restore(
            path=path,
            evidence_dir=str(self.state / "evidence"),
            act=act,
            backup_dirs=[str(self.own), str(self.shared)],
            recorded=listing.recorded(str(self.state)),
            **given,
        )

    def source(self, path: str, **more: Any) -> Optional[str]:
        """Return the backup that a recovery would restore. Check that a drill and the readiness report agree."""
        plan = self.restore(path, **more)["plan"]
        (found,) = [each["source"] for each in plan if each["method"] == "backup"]
        where: Dict[str, Any] = {
            "dirs": [str(self.own), str(self.shared)],
            "patterns": more.get("backup_patterns", []),
            "user": "nobody",
            "recorded": listing.recorded(str(self.state)),
            "configured": more.get("configured_path", self.configured),
        }
        search = choice.Search(place=path, named="", known=candidates.Known(), time_budget=30.0, **where)
        chosen, _problems = choice.newest(search, deadline=time.monotonic() + 30)
        survey = report.survey(report.Live(path), budget=30, deadline=time.monotonic() + 60, **where)["found"]
        good = [each["path"] for each in survey if each["kind"] in report.RESTORABLE]
        assert [None if chosen is None else chosen.path, *good[:1]] == [found, *([found] if good else [])]
        assert bool(good) == (found is not None)
        return None if found is None else str(found)

    def refused(self, path: str, **more: Any) -> List[str]:
        """Return the names of the backups that a recovery refuses because the user cannot read them."""
        (way,) = [each for each in self.restore(path, **more)["plan"] if each["method"] == "backup"]
        reasons = {each["path"]: [told["id"] for told in _reasons(each)] for each in way["backups"]}
        return sorted(os.path.basename(name) for name, ids in reasons.items() if ids == ["reason.restore.refused"])

    def scheduled(self, path: str, **more: Any) -> Dict[str, Any]:
        """Create a scheduled backup of an undamaged database."""
        known: Dict[str, Any] = {"folder": str(self.shared), "state_dir": str(self.state), "user": "nobody", **more}
        order = scheduled.Order(path=path, limits=retention.Limits(3), **known)
        return dict(scheduled.make(order)["backup"])


def _reasons(each: Dict[str, Any]) -> Sequence[Dict[str, Any]]:
    found = each["messages"].get("reason") or []
    return found if isinstance(found, list) else [found]


def give(path: Path, owner: pwd.struct_passwd = NOBODY) -> None:
    os.chown(path, owner.pw_uid, owner.pw_gid)


@pytest.fixture
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        os.chmod(base, 0o755)  # noqa: S103
        yield Site(Path(base))


def test_a_path_of_the_user_does_not_select_a_backup_of_another_service(site: Site) -> None:
    path = site.garbage("crm.db")
    for name in (f"crm.db.backup_{TIME}", "crm.db", "crm_daily.db"):
        site.backup(site.shared, name)
    with pytest.raises(SqliteError, match="nobody may not read it"):
        site.restore(path, act=True)
    assert Path(path).read_bytes() == b"\xa5" * 8192
    assert site.source(path) is None
    assert site.refused(path) == ["crm.db", f"crm.db.backup_{TIME}", "crm_daily.db"]


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_of_the_user_does_not_select_a_backup(site: Site, link: str) -> None:
    path = site.garbage("crm.db")
    site.backup(site.shared, f"crm.db.backup_{TIME}")
    if link == "file":
        os.symlink("crm.db", site.configured)
        os.lchown(site.configured, NOBODY.pw_uid, NOBODY.pw_gid)
        path = site.configured
        assert site.restore(path, configured_path="")["method"] is None
    else:
        site.own.rmdir()
        os.symlink(site.shared, site.own)
        os.lchown(site.own, NOBODY.pw_uid, NOBODY.pw_gid)
    assert site.restore(path)["method"] is None


def test_a_folder_of_another_account_is_no_way_around(site: Site) -> None:
    """Otherwise, root's files in such a folder are opened as root."""
    give(site.shared, DAEMON)
    site.shared.chmod(0o755)
    path = site.garbage("crm.db")
    site.backup(site.shared, f"crm.db.backup_{TIME}")
    assert site.source(path) is None


def test_a_wal_that_the_user_cannot_read_is_refused(site: Site) -> None:
    site.shared.chmod(0o755)
    path = site.garbage("crm.db")
    backup = site.backup(site.shared, f"crm.db.backup_{TIME}", mode=0o644)
    assert site.source(path) == backup
    Path(f"{backup}-wal").write_bytes(b"")
    os.chmod(f"{backup}-wal", 0o600)
    assert site.source(path) is None


def test_root_restores_the_backups_of_the_database_in_the_inventory(site: Site) -> None:
    path = site.garbage("itsm.db")
    backup = site.backup(site.shared, f"itsm.db.backup_{TIME}")
    assert site.source(path) == backup
    assert site.source(path, configured_path="") == backup
    site.restore(path, act=True)
    assert Path(path).stat().st_uid == NOBODY.pw_uid and Path(path).read_bytes().startswith(b"SQLite format 3")


def test_a_link_of_root_does_not_hide_the_backups(site: Site) -> None:
    path = site.garbage("itsm-2.db")
    os.symlink(path, site.top / "itsm.db")
    backup = site.backup(site.shared, f"itsm-2.db.backup_{TIME}")
    assert site.restore(str(site.top / "itsm.db"), configured_path=str(site.top / "itsm.db"))["source"] == backup


def test_the_application_keeps_its_backups_under_another_name(site: Site) -> None:
    """The service uses itsm_nexus.db, but the inventory still specifies itsm.db."""
    path = site.garbage("itsm_nexus.db")
    backup = site.backup(site.own, "itsm_nexus_daily_2026.db", owner=NOBODY)
    assert site.source(path) == backup
    os.unlink(backup)
    assert site.source(path) is None
    # Root's cron job has written to the application's folder, or the user has moved one of root's databases there.
    backup = site.backup(site.own, "itsm_nexus_daily_2026.db")
    assert site.source(path) is None
    os.chmod(backup, 0o644)
    assert site.source(path) == backup


def test_a_person_can_name_a_refused_backup(site: Site) -> None:
    path = site.garbage("itsm_nexus.db")
    backup = site.backup(site.shared, f"itsm_nexus.db.backup_{TIME}")
    assert site.source(path) is None
    assert site.source(path, backup_patterns=[os.path.basename(backup)]) == backup
    assert site.source(path, configured_path=path) == backup


def test_a_scheduled_backup_is_found_whatever_the_path_is(site: Site) -> None:
    """The user may change DATABASE_PATH after the backup, which contains only rows that the user could read."""
    path = str(site.backend / "itsm_nexus.db")
    closed(path)
    give(Path(path))
    made = site.scheduled(path)
    assert made["user"] == "nobody"
    site.garbage("itsm_nexus.db")
    assert site.source(path) == made["path"]
    assert site.source(site.garbage("later.db")) == made["path"]


def test_a_scheduled_backup_of_another_service_is_refused(site: Site) -> None:
    """The other service uses the same state folder and the same backup folder."""
    other = site.top / "other"
    other.mkdir()
    give(other, DAEMON)
    closed(str(other / "crm.db"))
    give(other / "crm.db", DAEMON)
    os.chmod(other / "crm.db", 0o600)
    made = site.scheduled(str(other / "crm.db"), user="daemon")
    assert made["user"] == "daemon"
    path = site.garbage("crm.db")
    assert site.source(path) is None and site.refused(path) == [os.path.basename(made["path"])]


def test_a_database_that_the_user_cannot_read_is_recorded_without_a_user(site: Site) -> None:
    path = str(site.shared / "root.db")
    closed(path)
    assert site.scheduled(path)["user"] == ""


def test_a_list_that_the_user_can_write_names_no_user(site: Site) -> None:
    path = site.garbage("crm.db")
    backup = site.backup(site.shared, f"crm.db.backup_{TIME}")
    entry = listing.Entry("2026-03-02T01:02:03.000Z", backup, os.path.getsize(backup), verified=True, user="nobody")
    listing.write(str(site.state), [entry])
    assert site.source(path) == backup
    give(site.state)
    assert site.source(path) is None


def test_refused_backups_do_not_displace_usable_ones(site: Site) -> None:
    path = site.garbage("crm.db")
    own = site.backup(site.own, f"crm.db.backup_{TIME}", owner=NOBODY)
    os.utime(own, (1, 1))
    for number in range(candidates.MOST + 5):
        (site.shared / f"crm.db.backup_{number}").touch(mode=0o600)
    assert site.source(path) == own


def drilled(site: Site, database: str, **more: Any) -> Dict[str, Any]:
    """Return the backup that a drill would restore, and the IDs of its problems."""
    known: Dict[str, Any] = {"unit": "a", "user": "nobody", "app_dir": "/a", "variable": "A", "folder": "/a", **more}
    known.update(database=database, state_dir=str(site.state), dirs=[str(site.shared)])
    target = probe_plan.Target(name="http", url="http://localhost:1/", required=True)
    result = drill.drill(drill_order.Order(targets=[target], **known), check_mode=True)
    return {"backup": result["backup"], "problems": [each["id"] for each in result["messages"].get("problems") or []]}


def test_a_drill_does_not_restore_a_backup_of_another_service(site: Site) -> None:
    path = site.garbage("crm.db")
    backup = site.backup(site.shared, f"crm.db.backup_{TIME}")
    refused = {"backup": None, "problems": ["reason.restore.backup_unusable"]}
    assert drilled(site, path, configured=site.configured) == refused
    for more in ({}, {"configured": path}, {"configured": site.configured, "backup": backup}):
        assert drilled(site, path, **more) == {"backup": backup, "problems": []}


def test_a_drill_does_not_restore_a_replica_of_another_service(site: Site) -> None:
    """The folder of the other service's database is gone, so the user's path cannot be checked."""
    other, own = str(site.shared / "gone" / "crm.db"), str(site.backend / "itsm_nexus.db")
    config = site.state / "litestream.yml"
    config.write_text(f"dbs:\n  - path: {other}\n  - path: {own}\n", encoding="utf-8")
    asked: Dict[str, Any] = {"litestream_config": str(config), "litestream_program": "true"}
    found = drilled(site, other, configured=site.configured, **asked)
    assert found == {"backup": None, "problems": ["reason.litestream.refused", "reason.restore.no_backup_in"]}
    for path, configured in ((other, other), (other, ""), (own, site.configured)):
        assert drilled(site, path, configured=configured, **asked)["backup"] == f"litestream:{path}"


def test_without_root_every_backup_that_can_be_read_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY.pw_uid)
    access = backup_access.access(backup_access.Reader("nobody", "/srv/itsm.db"), rights=None, patterns=())
    assert access.why_not("/no/such/file") is None
