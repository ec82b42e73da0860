# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The differences between a manifest and the host, and the changes that a running service has not loaded yet."""

from __future__ import annotations

import time

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import compare, packages, store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.entries import Entry, Manifest, Stamp
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.commands import Completed

GOOD, NOW = 1_000_000.0, 1_003_600.0


def stamp(at=GOOD - 500, *, size=10, modified=1, inode=7, mode=0o100644, uid=0):
    return Stamp(size, modified, inode, mode, uid, 0, at)


def entry(kind, name="x", value="", *, at=None, since=0.0, latest=(), parts=None, **status):
    there = None if at is None else stamp(at, **status)
    return Entry(kind, name, value, there, parts or {}, since, latest)


def differ(before, after, **waiting):
    known = Manifest(GOOD, {each.key: each for each in before}, waiting)
    return compare.differences(known, {each.key: each for each in after}, now=NOW)


OLD, NEW = GOOD - 500, GOOD + 100
# The entry before, the entry after, and the expected change: name, what, before, after, at.
CASES = {
    "nothing": (entry("unit", at=OLD), entry("unit", at=OLD), []),
    "a new time alone": (
        entry("lock_file", value="a", at=OLD),
        entry("lock_file", value="a", at=NEW, modified=2),
        [],
    ),
    "a new digest": (
        entry("lock_file", value="a", at=OLD),
        entry("lock_file", value="b", at=NEW, modified=2),
        [("x", "changed", "", "", NEW)],
    ),
    "a file whose content is not known": (
        entry("key", at=OLD),
        entry("key", at=NEW, modified=2),
        [("x", "changed", "", "", NEW)],
    ),
    "new permissions": (
        entry("key", at=OLD),
        entry("key", at=NEW, mode=0o100600, uid=1),
        [("x", "access", "0644 0:0", "0600 1:0", NEW)],
    ),
    "a file that was moved there": (
        entry("key", at=OLD),
        entry("key", at=OLD - 5, inode=8, since=NEW),
        [("x", "changed", "", "", NEW)],
    ),
    "a file that was moved there at an unknown time": (
        entry("key", at=OLD),
        entry("key", at=OLD - 5, inode=8),
        [("x", "changed", "", "", None)],
    ),
    "a new value": (
        entry("release", value="v1"),
        entry("release", value="v2", since=NEW),
        [("x", "changed", "v1", "v2", NEW)],
    ),
    "a value that was unknown": (entry("node", at=OLD), entry("node", value="v20", at=OLD), []),
    "a setting of a unit": (
        entry("unit", at=OLD, parts={"MemoryMax": "1G", "User": "itsm"}),
        entry("unit", at=NEW, size=9, parts={"MemoryMax": "64M", "User": "itsm"}),
        [("MemoryMax", "changed", "1G", "64M", NEW)],
    ),
    "a variable that is gone": (
        entry("environment", at=OLD, parts={"JWT_SECRET": "", "PORT": "1"}),
        entry("environment", at=NEW, size=9, parts={"PORT": "1"}),
        [("JWT_SECRET", "removed", "", "", NEW)],
    ),
    "a value of a variable that is not stored": (
        entry("environment", at=OLD, parts={"JWT_SECRET": ""}),
        entry("environment", at=NEW, size=9, parts={"JWT_SECRET": ""}),
        [("x", "changed", "", "", NEW)],
    ),
    "a file with code": (
        entry("code", "backend", "a", since=OLD),
        entry("code", "backend", "b", since=NEW, latest=[("a.js", NEW), ("b.js", OLD)]),
        [("backend/a.js", "changed", "", "", NEW)],
    ),
    "files with code": (
        entry("code", "backend", "a", since=OLD, parts={"a.js": "", "b.js": ""}),
        entry("code", "backend", "b", since=NEW, latest=[("c.js", NEW), ("b.js", OLD)], parts={"b.js": "", "c.js": ""}),
        [("backend/c.js", "added", "", "", NEW), ("backend/a.js", "removed", "", "", None)],
    ),
    "a file with code that was removed": (
        entry("code", ".", "a", since=OLD, parts={"a.js": "", "b.js": ""}),
        entry("code", ".", "b", since=NEW, latest=[("b.js", OLD)], parts={"b.js": ""}),
        [("a.js", "removed", "", "", NEW)],
    ),
    "a file with code that is gone": (
        entry("code", "backend", "a", since=OLD),
        entry("code", "backend", "b", since=NEW, latest=[("b.js", OLD)]),
        [("backend", "changed", "", "", NEW)],
    ),
    "a new migration": (
        entry("migrations", "m", "a", since=OLD, parts={"1.js": ""}),
        entry("migrations", "m", "b", since=NEW, latest=[("2.js", NEW)], parts={"1.js": "", "2.js": ""}),
        [("m/2.js", "added", "", "", NEW)],
    ),
    "a module that is gone": (
        entry("modules", "node_modules", at=OLD, parts={"express": "", "knex": ""}),
        entry("modules", "node_modules", at=NEW, modified=2, parts={"knex": ""}),
        [("express", "removed", "", "", NEW)],
    ),
    "a cache in the folder of the modules": (
        entry("modules", "node_modules", at=OLD, parts={"express": ""}),
        entry("modules", "node_modules", at=NEW, modified=2, parts={"express": ""}),
        [],
    ),
    "more modules than are listed": (
        entry("modules", "node_modules", at=OLD, parts={"express": ""}),
        entry("modules", "node_modules", at=NEW, modified=2, parts={"too many to list": ""}),
        [("node_modules", "changed", "", "", NEW)],
    ),
    "more files with code than are listed": (
        entry("code", ".", "a", since=OLD, parts={"a.js": ""}),
        entry("code", ".", "b", since=NEW, latest=[("b.js", NEW)], parts={"too many to list": ""}),
        [("b.js", "added", "", "", NEW)],
    ),
    "a table": (
        entry("schema", "database", parts={"table users": "a", "table assets": "b"})._replace(gate="unchanged"),
        entry("schema", "database", parts={"table users": "c", "table notes": "d"}),
        [
            ("table assets", "removed", "", "", None),
            ("table notes", "added", "", "", None),
            ("table users", "changed", "", "", None),
        ],
    ),
    "another path": (
        entry("database", at=OLD, parts={"path": "/a.db"}),
        entry("database", at=OLD, parts={"path": "/b.db"}),
        [("/b.db", "changed", "/a.db", "/b.db", None)],
    ),
    "a database that is gone": (
        entry("database", value="with data", at=OLD, parts={"path": "/a.db"}),
        entry("database", value="missing", parts={"path": "/a.db"}),
        [("/a.db", "changed", "with data", "missing", None)],
    ),
    "a new certificate": (
        entry("certificate", value="a", at=OLD, parts={"path": "/a.crt", "valid until": "2026-03-02"}),
        entry("certificate", value="b", at=NEW, modified=2, parts={"path": "/a.crt", "valid until": "2027-03-02"}),
        [("/a.crt", "changed", "2026-03-02", "2027-03-02", NEW)],
    ),
    "a new drop-in": (None, entry("unit", "/etc/u.d/a.conf", at=NEW), [("/etc/u.d/a.conf", "added", "", "", NEW)]),
    "a drop-in that is gone": (
        entry("unit", "/nonexistent/a.conf", at=OLD),
        None,
        [("/nonexistent/a.conf", "removed", "", "", None)],
    ),
    "a database that could not be read before": (None, entry("schema", "database"), []),
}


@pytest.mark.parametrize("case", CASES)
def test_differences(case):
    before, after, wanted = CASES[case]
    found = differ([before] if before else [], [after] if after else [])
    assert [(each.name, each.what, each.before, each.after, each.at) for each in found] == wanted
    assert all((each.earliest, each.ours) == (GOOD, False) for each in found)


@pytest.mark.parametrize("name", ["zz-held-INC-20260302T010203Z-1f3a.conf", "90-itsm-nexus-memory.conf"])
def test_a_drop_in_of_this_collection_is_ours(name):
    (change,) = differ([], [entry("unit", f"/run/systemd/system/u.service.d/{name}", at=NEW)])
    assert change.ours


BEFORE, AFTER = entry("environment", at=OLD), entry("environment", at=GOOD + 50, size=9)
TABLES = entry("schema", "database", parts={"table a": "1"}), entry("schema", "database", parts={"table a": "2"})
CHECK = GOOD + 100


@pytest.mark.parametrize(
    ("before", "after", "started_at", "loaded"),
    [
        (BEFORE, AFTER, GOOD - 1000, False),
        (BEFORE, AFTER, GOOD + 60, True),
        # The service itself wrote the file during its start.
        (BEFORE, AFTER, GOOD + 48, True),
        (BEFORE, AFTER, GOOD + 10, False),
        (None, AFTER, GOOD - 1000, False),
        (BEFORE, None, GOOD - 1000, False),
        (BEFORE, None, GOOD + 50, True),
        (*TABLES, GOOD - 1000, False),
        (*TABLES, GOOD + 50, True),
        (entry("kernel", value="6.1"), entry("kernel", value="6.2"), GOOD - 1000, True),
    ],
)
def test_a_change_is_good_only_after_the_service_has_loaded_it(before, after, started_at, loaded):
    known = Manifest(GOOD, {before.key: before} if before else {})
    merged = store.merged(known, {after.key: after} if after else {}, started_at=started_at, now=CHECK)
    key = (before or after).key
    assert merged.entries.get(key) == (after if loaded else before)
    assert merged.waiting == ({} if loaded else {key: [GOOD, CHECK]})
    assert merged.at == CHECK


def test_a_waiting_change_keeps_the_time_when_it_was_first_seen():
    known = Manifest(GOOD, {BEFORE.key: BEFORE})
    for minute in range(3):
        now = CHECK + 60 * minute
        known = store.merged(known, {AFTER.key: AFTER}, started_at=GOOD - 1000, now=now)
    assert known.waiting == {AFTER.key: [GOOD, CHECK]}
    (change,) = compare.differences(known, {AFTER.key: AFTER}, now=NOW)
    assert (change.at, change.earliest, change.latest) == (GOOD + 50, GOOD, CHECK)
    # The change was undone.
    assert store.merged(known, {BEFORE.key: BEFORE}, started_at=GOOD - 1000, now=NOW).waiting == {}
    # The service was restarted and works with the change.
    again = store.merged(known, {AFTER.key: AFTER}, started_at=GOOD + 200, now=NOW)
    assert (again.entries, again.waiting) == ({AFTER.key: AFTER}, {})


def test_changed_packages_are_named_with_their_versions(tmp_path):
    def line(at, text):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f" {text}\n"

    log = tmp_path / "dpkg.log"
    log.write_text(
        line(OLD, "upgrade before:amd64 1 2")
        + line(NEW, "status installed libssl3:amd64 3.0.2")
        + line(NEW, "upgrade libssl3:amd64 3.0.1 3.0.2")
        + line(NEW + 1, "install new:all <none> 1.0")
        + line(NEW + 2, "remove old:amd64 2.0 <none>"),
        encoding="utf-8",
    )
    before = entry("packages", "/var/lib/dpkg/status", at=OLD)
    changes = differ([before], [entry("packages", "/var/lib/dpkg/status", at=NEW + 2, modified=2)])
    none = pytest.fail
    found = packages.detailed(changes, run=none, timeout=1, logs=[str(log), str(tmp_path / "none")])
    assert [(each.name, each.what, each.before, each.after, each.at) for each in found] == [
        ("old", "removed", "2.0", "", NEW + 2),
        ("new", "added", "", "1.0", NEW + 1),
        ("libssl3", "changed", "3.0.1", "3.0.2", NEW),
    ]
    # If there is no log, only the change to the package database is known.
    assert packages.detailed(changes, run=none, timeout=1, logs=[]) == changes


def test_changed_packages_of_rpm_are_named():
    before = entry("packages", "/var/lib/rpm/rpmdb.sqlite", at=OLD)
    changes = differ([before], [entry("packages", "/var/lib/rpm/rpmdb.sqlite", at=NEW, modified=2)])
    said = f"{int(OLD)} glibc 2-1\n{int(NEW)} openssl 3-2\nnonsense\n"

    def run(argv, **_options):
        return Completed(argv, 0, said, "", 0.1)

    (found,) = packages.detailed(changes, run=run, timeout=1)
    assert (found.name, found.after, found.at) == ("openssl", "3-2", NEW)


@pytest.mark.parametrize(("gate", "earliest"), [("unchanged", GOOD), ("", OLD)])
def test_a_schema_is_known_until_the_database_was_written_to(gate, earliest):
    before, after = (each._replace(since=OLD, gate=gate) for each in TABLES)
    (change,) = differ([before], [after])
    assert change.earliest == earliest


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("zz-held-INC-20260302T010203Z-1f3a.conf", True),
        ("90-itsm-nexus-memory.conf", True),
        ("50-itsm-nexus-start-guard.conf", True),
        ("50-itsm-nexus-start-guard.conf.bak", False),
        ("90-itsm-nexusmemory.conf", False),
        ("override.conf", False),
    ],
)
def test_the_drop_ins_of_this_collection_are_ours(name: str, ours: bool) -> None:
    added = entry("unit", f"/etc/systemd/system/itsm.service.d/{name}", at=NEW)
    assert [each.ours for each in differ([], [added])] == [ours]
