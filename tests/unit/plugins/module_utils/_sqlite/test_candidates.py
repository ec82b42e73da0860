# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recovery, a restore drill and a readiness report agree on which backups exist and can be restored."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import pytest
import sqlite_samples

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import choice, listing
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import backups as report
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access, candidates
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.candidates import Known

CREATED = 1_700_000_000_000
HOUR = 3600.0


def made(path: Path, *, created: Optional[int] = CREATED, rows: int = 50) -> str:
    """Create a service database. created: when knex applied its first migration, in milliseconds."""
    sqlite_samples.closed(str(path), rows=rows)
    if created is not None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            columns = "id INTEGER PRIMARY KEY, name TEXT, batch INTEGER, migration_time DATETIME"
            connection.execute(f"CREATE TABLE knex_migrations ({columns})")
            connection.execute("INSERT INTO knex_migrations VALUES (1, '001_init.js', 1, ?)", (created,))
            connection.commit()
    return str(path)


class Answers(NamedTuple):
    """The path of the backup that each part of the collection would restore, or None."""

    recovery: Optional[str]
    drill: Optional[str]
    report: Optional[str]


class Site:
    """A service with a database, a folder for backups, and a folder that no setting contains."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = str(folder / "state")
        self.folder, self.elsewhere = folder / "backups", folder / "elsewhere"
        for each in (folder / "app", self.folder, self.elsewhere):
            each.mkdir()
        self.database = made(folder / "app" / "itsm.db")
        check = sqlite_check.check(path=self.database, checks=["quick"], time_budget=30)
        self.last = last_good.Counted.of(check)
        self.live = report.live(check, path=self.database, user=None, timeout=30, last=self.last)

    def record(self, path: str, *, hours: float = 1.0, size: Optional[int] = None) -> None:
        at = timestamps.iso(time.time() - hours * HOUR)
        size = os.path.getsize(path) if size is None else size
        listing.write(self.state_dir, [listing.Entry(at, path, size, verified=True), *listing.read(self.state_dir)])

    def damage(self) -> None:
        Path(self.database).write_bytes(b"\xa5" * os.path.getsize(self.database))

    def plan(self, **more: Any) -> Dict[str, Any]:
        """Return the recovery's assessment of the method "backup"."""
        given: Dict[str, Any] = {"created_at": self.last.created_at, "expected": self.last.rows, **more}
        plan = sqlite_restore.restore(
            path=self.database,
            evidence_dir=str(self.folder.parent / "evidence"),
            act=False,
            backup_dirs=[str(self.folder)],
            recorded=listing.recorded(self.state_dir),
            **given,
        )["plan"]
        (found,) = [each for each in plan if each["method"] == "backup"]
        return dict(found)

    def answers(self) -> Answers:
        where: Dict[str, Any] = {"dirs": [str(self.folder)], "patterns": [], "user": None}
        where["recorded"] = listing.recorded(self.state_dir)
        known = Known(set(self.last.rows), self.last.created_at)
        search = choice.Search(place=self.database, named="", known=known, time_budget=30.0, **where)
        chosen, _problems = choice.newest(search, deadline=time.monotonic() + 30)
        found = report.survey(self.live, budget=30, deadline=time.monotonic() + 60, **where)["found"]
        good = [each["path"] for each in found if each["kind"] in report.RESTORABLE]
        self.damage()
        return Answers(self.plan()["source"], None if chosen is None else chosen.path, good[0] if good else None)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_listed_backup_is_found_in_any_folder_under_any_name(site: Site) -> None:
    path = made(site.elsewhere / "nightly.sqlite")
    site.record(path)
    assert site.answers() == Answers(path, path, path)


def test_a_backup_of_another_host_with_the_same_service_is_never_restored(site: Site) -> None:
    """The other host's backup has the same tables, is newer and has more rows."""
    own = made(site.folder / "itsm.db.backup_own")
    os.utime(own, (time.time() - 7200,) * 2)
    made(site.folder / "itsm.db.backup_test", created=CREATED + 1, rows=500)
    assert site.answers() == Answers(own, own, own)


def test_a_database_without_migrations_is_not_restored(site: Site) -> None:
    made(site.folder / "itsm.db.backup_other", created=None)
    assert site.answers() == Answers(None, None, None)


@pytest.mark.parametrize("changed", ["gone", "other size"])
def test_a_listed_backup_that_was_changed_is_not_restored(site: Site, changed: str) -> None:
    path = made(site.folder / "itsm.db.backup_1")
    site.record(path, size=4096)
    if changed == "gone":
        os.unlink(path)
    assert site.answers() == Answers(None, None, None)


def test_a_folder_that_is_not_mounted_does_not_hide_the_other_backups(site: Site) -> None:
    path = made(site.folder / "itsm.db.backup_1")
    os.utime(path, (time.time() - 100 * HOUR,) * 2)
    for number in range(candidates.MOST + 5):
        site.record(f"{site.elsewhere}/{number}", hours=number, size=4096)
    assert site.answers() == Answers(path, path, path)


def test_the_age_of_a_listed_backup_is_when_it_was_begun(site: Site) -> None:
    path = made(site.folder / "itsm.db.backup_1")
    site.record(path, hours=2)
    begun = listing.read(site.state_dir)[0].at
    (found,), _unread = candidates.find(
        site.database,
        dirs=[str(site.folder)],
        patterns=[],
        rights=None,
        reader=backup_access.Reader(),
        recorded=listing.recorded(site.state_dir),
    )
    assert timestamps.iso(found.at) == begun
    site.damage()
    assert site.plan()["source_at"] == begun


def test_the_list_of_backups_does_not_stop_the_recovery(site: Site) -> None:
    Path(site.state_dir).mkdir()
    Path(site.state_dir, listing.NAME).write_text("damaged")
    path = made(site.folder / "itsm.db.backup_1")
    site.damage()
    found = site.plan()
    assert (
        found["source"] == path and f"the backup list {site.state_dir}/backups.json cannot be read" in found["reason"]
    )


def test_a_new_database_does_not_make_its_old_backups_foreign(site: Site) -> None:
    """The service has created a new database. Therefore, the first migration has a different time in each backup."""
    path = made(site.folder / "itsm.db.backup_1")
    os.unlink(site.database)
    made(Path(site.database), created=CREATED + 3_600_000, rows=0)
    assert site.plan(replaced=True)["source"] == path
    assert site.plan(replaced=True, created_at="")["source"] == path
    # If the rows of the last good count are from the new database, a person has accepted the loss.
    present = sqlite_check.check(path=site.database)["database"]["first_migration_at"]
    assert site.plan(created_at=present, expected={})["source"] is None


@pytest.mark.parametrize(
    ("known", "found", "why"),
    [
        (Known({"users", "incidents"}, "A"), Known({"users"}, "A"), None),
        (Known({"users", "incidents"}, "A"), Known({"songs"}, "A"), None),
        (Known({"users", "incidents"}, "A"), Known({"users", "incidents"}, "B"), "reason.restore.other_database"),
        (Known({"users", "incidents"}, "A"), Known({"users", "incidents"}), "reason.restore.no_migrations"),
        # If the time is unknown, the tables are compared instead. An older schema has only some of the tables.
        (Known({"a", "b", "c", "d"}), Known({"a", "b"}, "B"), None),
        (Known({"a", "b", "c", "d"}), Known({"a", "x", "y"}), "reason.restore.other_service"),
        (Known({"a", "knex_migrations"}), Known({"x", "knex_migrations"}), "reason.restore.other_service"),
        (Known(), Known({"x"}, "B"), None),
    ],
)
def test_a_foreign_database(known: Known, found: Known, why: Optional[str]) -> None:
    told = candidates.why_foreign(known, found)
    assert (None if told is None else told.id) == why
