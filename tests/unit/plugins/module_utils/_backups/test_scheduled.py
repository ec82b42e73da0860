# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import stat
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from sqlite_samples import Process, closed, crashed, flip

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import (
    listing,
    off_host,
    retention,
    scheduled,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError

# A writer that commits as fast as it can, until its standard input is closed. The writer saves the duration of each
# commit in a file. When a process closes a database file, it drops all its own locks on that file. The writer must
# therefore be a separate process.
BUSY = """
import select
connection = sqlite3.connect(path, isolation_level=None, timeout=10)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=NORMAL")
number = 1000000
log = open(path + ".durations", "w", buffering=1)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    begun = time.monotonic()
    connection.execute("INSERT INTO incidents VALUES (?, 'busy', ?)", (number, "y" * 500))
    print(time.monotonic() - begun, file=log)
"""


class Host:
    """A database and the backup folders, below a temporary folder."""

    def __init__(self, top: Path) -> None:
        self.database = str(top / "app" / "itsm.db")
        self.folder = str(top / "state" / "backups")
        self.state_dir = str(top / "state")
        os.mkdir(top / "app")

    def order(self, **more: Any) -> scheduled.Order:
        known = {"path": self.database, "folder": self.folder, "state_dir": self.state_dir}
        return scheduled.Order(**{**known, "limits": retention.Limits(3), **more})

    def make(self, *, check_mode: bool = False, **more: Any) -> Dict[str, Any]:
        return scheduled.make(self.order(**more), check_mode=check_mode)

    def files(self) -> List[str]:
        return sorted(os.listdir(self.folder))

    def listed(self) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = json.loads(Path(self.state_dir, "backups.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def seat(host: Host) -> Iterator[host_lease.Seat]:
    """Yield the lease of a recovery that is running on the host."""
    seat = host_lease.Seat(state_dir=host.state_dir)
    seat.prepare()
    seat.take(run="a-recovery")
    yield seat
    shutil.rmtree(seat.folder, ignore_errors=True)


def rows(path: str) -> int:
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    count = connection.execute("SELECT count(*) FROM incidents").fetchone()[0]
    connection.close()
    return int(count)


def test_a_backup_is_made_verified_and_listed(host: Host) -> None:
    crashed(host.database)
    result = host.make()
    made = result["backup"]
    assert made["verified"] and made["rows"] == {"incidents": 260, "users": 2}
    assert rows(made["path"]) == 260
    assert made["bytes"] == os.path.getsize(made["path"])
    assert (made["off_host"], result["problems"], result["removed"]) == (None, [], [])
    assert host.listed() == [made]
    listed = Path(host.state_dir, "backups.json")
    assert stat.S_IMODE(listed.stat().st_mode) == stat.S_IMODE(os.stat(made["path"]).st_mode) == 0o600
    assert abs(timestamps.epoch(made["at"]) - time.time()) < 60


def test_a_backup_during_writes_ends_and_does_not_block_them(host: Host) -> None:
    closed(host.database, rows=20000)
    durations = Path(f"{host.database}.durations")
    with Process(host.database, BUSY):
        before = len(durations.read_text().split())
        result = host.make(timeout=60.0)
        during = [float(word) for word in durations.read_text().split()[before:-1]]
    made = result["backup"]
    assert made["rows"]["incidents"] == rows(made["path"]) > 20000
    # The backup takes much longer than the median commit. The slowest commit may contain a checkpoint.
    assert len(during) > 100
    assert sorted(during)[len(during) // 2] < 0.02 < result["duration"]
    assert max(during) < 2


def test_old_backups_are_removed_after_the_new_one_was_verified(host: Host) -> None:
    closed(host.database)
    made = [host.make()["backup"]["path"] for _number in range(4)]
    assert len(set(made)) == 4
    last = host.make()
    assert last["removed"] == [made[1]]
    assert [each["path"] for each in host.listed()] == [last["backup"]["path"], made[3], made[2]]
    assert host.files() == sorted(os.path.basename(each["path"]) for each in host.listed())


def test_a_failed_backup_removes_nothing(host: Host) -> None:
    closed(host.database)
    made = [host.make()["backup"]["path"] for _number in range(3)]
    before = (host.files(), host.listed())
    flip(host.database, 4096 + 10)
    with pytest.raises(SqliteError, match=r"not sound|malformed"):
        host.make()
    assert (host.files(), host.listed()) == before
    assert {os.path.basename(path) for path in made} == set(host.files())


def test_a_killed_backup_is_listed_as_not_verified(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(host.database)
    host.make()

    def die(**arguments: Any) -> Any:
        Path(arguments["dest"]).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_backup, "backup", die)
        with pytest.raises(KeyboardInterrupt):
            host.make()
    assert [each["verified"] for each in host.listed()] == [False, True]
    # The unfinished backup is removed like any other backup, but does not replace a verified backup.
    for _number in range(3):
        host.make()
    assert all(each["verified"] for each in host.listed())
    assert [host.files(), len(host.listed())] == [sorted(os.path.basename(each["path"]) for each in host.listed()), 3]


def test_killed_backups_do_not_displace_the_verified_ones(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(host.database)
    good = [host.make()["backup"]["path"] for _number in range(2)]

    def die(**_arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_backup, "backup", die)
        for _number in range(4):
            with pytest.raises(KeyboardInterrupt):
                host.make()
    assert len(host.make(check_mode=True)["removed"]) == 4
    newest = host.make()["backup"]["path"]
    assert [each["path"] for each in host.listed()] == [newest, good[1], good[0]]
    assert all(os.path.exists(path) for path in good)


def test_a_database_that_lost_its_rows_does_not_replace_the_good_backups(host: Host) -> None:
    closed(host.database)
    good = [host.make()["backup"]["path"] for _number in range(3)]
    connection = sqlite3.connect(host.database)
    connection.execute("DELETE FROM incidents WHERE id > 3")
    connection.commit()
    connection.close()
    for _number in range(3):
        result = host.make()
        assert result["removed"] == []
        assert "incidents had 200 rows and now has 3" in result["problems"][0]
        assert result["messages"]["problems"][0]["id"] == "reason.backup.fewer"
    assert all(os.path.exists(path) for path in good)
    # A person confirms the loss. Now the limit on the number of backups applies again.
    accepted = host.make(accept_fewer=True)
    assert accepted["problems"] == [] and len(host.files()) == 3
    assert host.make()["problems"] == []


@pytest.mark.parametrize("name", ["itsm.db.backup_by_hand", "other.db.backup_20200101T000000Z", "notes.txt"])
def test_files_of_others_are_never_removed(host: Host, name: str) -> None:
    closed(host.database)
    host.make()
    other = Path(host.folder, name)
    other.write_text("keep me")
    # This file has the name of a backup, but it is not listed.
    unlisted = Path(host.folder, "itsm.db.backup_20200101T000000Z")
    unlisted.write_text("keep me too")
    # Another program wrote this entry.
    listed = listing.read(host.state_dir)
    listing.write(host.state_dir, [*listed, Entry("2020-01-01T00:00:00.000Z", str(other), verified=True)])
    for _number in range(5):
        host.make()
    assert other.read_text() == "keep me" and unlisted.read_text() == "keep me too"


def entry(days: float, *, verified: bool = True, lost: bool = False) -> Entry:
    fewer = {"incidents": [200, 3]} if lost else {}
    return Entry(timestamps.iso(1e9 - days * 86400), f"/b/db.backup_{days}", verified=verified, fewer=fewer)


@pytest.mark.parametrize(
    ("entries", "limits", "removed"),
    [
        ([entry(0), entry(1), entry(2)], retention.Limits(2), [2]),
        ([entry(0), entry(1), entry(9)], retention.Limits(9, 8), [9]),
        ([entry(0), entry(1), entry(9)], retention.Limits(2, 20), [9]),
        # The newest verified backup is kept, regardless of its age.
        ([entry(50)], retention.Limits(2, 8), []),
        ([entry(0, verified=False), entry(50)], retention.Limits(2, 8), []),
        # The backups of killed runs do not replace verified backups. The first entry is the backup that is still being
        # created.
        ([entry(0), entry(1, verified=False), entry(2, verified=False), entry(3)], retention.Limits(2), [1, 2]),
        ([entry(0, verified=False), entry(1, verified=False), entry(2), entry(3)], retention.Limits(2), [1]),
        # The newest verified backup without missing rows is kept too.
        ([entry(0, lost=True), entry(1, lost=True), entry(50), entry(51)], retention.Limits(2, 8), [51]),
        # If the clock was set back, the order of the list determines which backup is the newest.
        ([entry(9), entry(0), entry(1)], retention.Limits(2), [1]),
        ([Entry("no time", "/b/db.backup_x", verified=True), entry(1)], retention.Limits(2, 0.5), [1]),
        ([entry(0), Entry("no time", "/b/x", verified=True)], retention.Limits(2, 0.5), []),
    ],
)
def test_retention(entries: List[Entry], limits: retention.Limits, removed: List[float]) -> None:
    found = retention.surplus(entries, limits, now=1e9)
    assert [each.path for each in found] == [f"/b/db.backup_{days}" for days in removed]


def test_check_mode_changes_nothing(host: Host) -> None:
    closed(host.database)
    assert host.make(check_mode=True)["backup"] is None
    assert not os.path.exists(host.state_dir)
    for _number in range(3):
        host.make()
    before = (host.files(), host.listed())
    assert len(host.make(check_mode=True)["removed"]) == 1
    assert (host.files(), host.listed()) == before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"limits": retention.Limits(1)}, "keep must be 2 to 500, not 1"),
        ({"limits": retention.Limits(3, -1)}, "keep_days must be 0"),
        ({"folder": "backups"}, "dest_dir must be an absolute path"),
        ({"folder": "/srv/../etc"}, "dest_dir must be an absolute path"),
    ],
)
def test_an_invalid_setting_names_its_value(host: Host, more: Dict[str, Any], told: str) -> None:
    closed(host.database)
    with pytest.raises(BackupError, match=told):
        host.make(**more)


def test_an_unreadable_list_stops_the_backup(host: Host) -> None:
    closed(host.database)
    host.make()
    Path(host.state_dir, "backups.json").write_text("{}")
    files = host.files()
    with pytest.raises(BackupError, match=r"Cannot read the backup list .*it is not a list"):
        host.make()
    assert host.files() == files


def test_an_old_backup_that_cannot_be_removed_is_reported_with_the_reason(host: Host) -> None:
    closed(host.database)
    made = [host.make()["backup"]["path"] for _number in range(3)]
    os.unlink(made[0])
    os.mkdir(made[0])
    (problem,) = host.make()["problems"]
    assert problem == f"Cannot remove the old backup {made[0]}: it is not a regular file"


def test_a_listed_backup_that_was_not_verified_is_reported_as_such(host: Host) -> None:
    listing.write(host.state_dir, [Entry("2026-03-02T01:02:03.000Z", "/b/x")])
    for path, told in (
        ("/b/x", "is in the backup list, but it was not verified"),
        ("/b/y", "is not in the backup list"),
    ):
        with pytest.raises(BackupError, match=f"{path} {told}"):
            listing.listed(host.state_dir, path)


def test_two_backups_do_not_run_at_the_same_time(host: Host) -> None:
    closed(host.database)
    with listing.locked(host.state_dir, run=""), pytest.raises(
        BackupError, match="Another backup or restore drill is running"
    ):
        host.make()


def test_an_error_during_a_backup_is_not_reported_as_another_backup(host: Host) -> None:
    """A pipe or the lock of another file can raise the same exception as the lock of the backups."""
    with pytest.raises(BlockingIOError, match="of the caller"), listing.locked(host.state_dir, run=""):
        raise BlockingIOError(11, "of the caller")
    # The lock is released.
    with listing.locked(host.state_dir, run=""):
        pass


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_backup_waits_for_no_recovery(host: Host, seat: host_lease.Seat, check_mode: bool) -> None:
    closed(host.database)
    with pytest.raises(BackupError, match="Another run is working on this host: a-recovery"):
        host.make(check_mode=check_mode)
    assert not os.path.exists(host.folder)
    assert host.make(check_mode=check_mode, run="a-recovery")["changed"]
    seat.release(run="a-recovery")
    assert host.make(check_mode=check_mode)["changed"]


@pytest.mark.usefixtures("seat")
def test_a_copy_is_recorded_during_a_recovery(host: Host) -> None:
    """When a copy is recorded, only the list changes. Therefore, a copy can also be recorded during a recovery."""
    listing.write(host.state_dir, [Entry("2026-03-02T01:02:03.000Z", "/b/x", verified=True)])
    off_host.answer("/b/x", offset=-1, where="there", user=None, state_dir=host.state_dir, check_mode=False)
    assert listing.read(host.state_dir)[0].off_host == "there"


def command(program: str, *more: str, timeout: float = 30.0) -> off_host.Command:
    return off_host.Command([sys.executable, "-c", program, *more], pwd.getpwuid(os.getuid()).pw_name, timeout)


def test_a_command_gets_the_backup_on_its_standard_input(host: Host, tmp_path: Path) -> None:
    closed(host.database)
    program = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'xb'))"
    result = host.make(command=command(program, f"{tmp_path}/{{name}}-{{sha256}}"))
    made = result["backup"]
    copy = tmp_path / f"{os.path.basename(made['path'])}-{made['sha256']}"
    assert copy.read_bytes() == Path(made["path"]).read_bytes()
    assert made["off_host"].startswith(f"{sys.executable}, as ") and host.listed()[0]["off_host"] == made["off_host"]


@pytest.mark.parametrize("name", ["x;id>pwned;.db", "$(id).db", "-rf.db", "a b.db", "a`id`.db", "a'b.db", "../a\n.db"])
def test_the_name_of_a_database_cannot_contain_commands(host: Host, tmp_path: Path, name: str) -> None:
    """The service's user chooses the name of the database. The command may pass the name of the backup to a shell."""
    host.database = str(tmp_path / "app" / os.path.basename(name))
    closed(host.database)
    shell = off_host.Command(["/bin/sh", "-c", f"cd {tmp_path}; cat > {{name}}"], pwd.getpwuid(os.getuid()).pw_name)
    for check_mode in (True, False):
        with pytest.raises(BackupError, match="the name of the database may contain only letters and digits"):
            host.make(command=shell, check_mode=check_mode)
    assert not Path(host.folder).exists()
    assert host.make()["backup"]["verified"] is True  # if no command is set, every name is harmless


@pytest.mark.parametrize(
    ("program", "timeout", "told"),
    [
        (
            "import sys; sys.exit('the store is full, password=hunter2hunter2')",
            30,
            "exited with code 1: the store is",
        ),
        ("import sys; sys.exit(7)", 30, "exited with code 7: no output"),
        ("import time; time.sleep(60)", 0.5, "did not finish within 0.5 s and was killed"),
    ],
)
def test_a_failed_copy_is_a_problem_and_the_backup_stays(host: Host, program: str, timeout: float, told: str) -> None:
    closed(host.database)
    result = host.make(command=command(program, timeout=timeout))
    assert told in result["problems"][0] and "hunter2" not in str(result)
    assert os.path.exists(result["backup"]["path"]) and host.listed()[0]["off_host"] is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (off_host.Command(["cp", "{path}"]), "absolute path of a program"),
        (off_host.Command(["/bin/cp", "{file}"]), r"may contain only these placeholders: \{path\}"),
        (off_host.Command(["/bin/cp"], timeout=0), "command_timeout must be above 0"),
    ],
)
def test_an_invalid_command_is_refused_before_the_backup(host: Host, wrong: off_host.Command, told: str) -> None:
    closed(host.database)
    with pytest.raises(BackupError, match=told):
        host.make(command=wrong)
    assert not os.path.exists(host.folder)


def test_an_unknown_account_or_program_is_a_problem(host: Host) -> None:
    closed(host.database)
    unknown = off_host.Command(["/bin/cat"], "no-such-account")
    assert "there is no user 'no-such-account'" in host.make(command=unknown)["problems"][0]
    missing = command("")._replace(argv=["/nonexistent/program"])
    assert "cannot run /nonexistent/program" in host.make(command=missing)["problems"][0]
