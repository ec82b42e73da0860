# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Freeing disk space: the order of deletion, the end of the deletion, and files that are never deleted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import disk_reclaim, reclaim_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.reclaim_patterns import (
    DiskReclaimError,
    Rule,
    Target,
)

MIB = 1 << 20


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def lay(path: Path, *, age: int, size: int = MIB) -> Path:
    """Create a file of `size` bytes whose modification time is `age` seconds before a fixed time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def reclaim(folder: Path, *patterns, wanted: int | None = None, **more) -> dict:
    """Free space until `wanted` more bytes are free, and return the result. By default, free as much as possible."""
    available = 1 << 62 if wanted is None else free(folder) + wanted
    rules = [rule if isinstance(rule, Rule) else Rule(str(rule)) for rule in patterns]
    return disk_reclaim.reclaim(
        rules=rules,
        targets=[Target(path=str(folder), available=available)],
        **{"state_dir": "/nowhere/state", **more},
    )


def paths(entries: list[dict]) -> list[str]:
    return [entry["path"] for entry in entries]


def reasons(result: dict) -> dict[str, str]:
    return {Path(entry["path"]).name: entry["reason"] for entry in result["skipped"]}


@contextlib.contextmanager
def full(size: int = 4 * MIB, **options):
    """Mount a real file system of `size` bytes, and yield the mount point. Skip the test if this user cannot mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    folder = Path(f"/tmp/itsm-nexus-full-{os.getpid()}")
    folder.mkdir()
    settings = ",".join([f"size={size}", *(f"{name}={value}" for name, value in options.items())])
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"mode=0755,{settings}", "tmpfs", folder], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


# Files that are deleted


def test_the_oldest_files_are_deleted_until_enough_space_is_free(logs, monkeypatch):
    names = [lay(logs / f"app.log.{number}", age=number) for number in (3, 1, 4, 2)]
    # Report a fixed amount of free space, because other processes also write to this file system.
    room = os.statvfs(logs)
    monkeypatch.setattr(os, "statvfs", lambda _path: room)
    told = reclaim(logs, logs / "app.log.*", wanted=2 * MIB, check_mode=True)
    assert paths(told["removed"]) == [str(logs / "app.log.4"), str(logs / "app.log.3")]
    assert all(path.exists() for path in names)
    assert (told["changed"], told["enough"], told["freed"]) == (True, True, 2 * MIB)
    assert told["removed"][0] == {
        "path": str(logs / "app.log.4"),
        "size": MIB,
        "modified": "2023-11-14T22:13:16.000Z",
    }
    assert told["diff"] == {"before": "".join(f"{logs}/app.log.{n} {MIB}\n" for n in (4, 3)), "after": ""}


def test_a_full_file_system_has_space_again_and_only_needed_files_are_deleted():
    with full() as folder:
        for number in range(1, 4):
            lay(folder / f"app.log.{number}", age=number)
        with contextlib.suppress(OSError), (folder / "live").open("wb", buffering=0) as stream:
            while stream.write(b"x" * 4096):
                pass
        assert free(folder) == 0
        target = [Target(path=str(folder), available=MIB + 4096)]
        arguments = {"rules": [Rule(f"{folder}/app.log.*")], "targets": target, "state_dir": "/nowhere"}
        result = disk_reclaim.reclaim(**arguments)
        assert paths(result["removed"]) == [f"{folder}/app.log.3", f"{folder}/app.log.2"]
        assert result["enough"] and free(folder) >= MIB + 4096
        assert result["targets"][0]["available_before"] == 0
        (folder / "written").write_bytes(b"y" * MIB)
        (folder / "written").unlink()
        again = disk_reclaim.reclaim(**arguments)
        assert (again["changed"], again["enough"], again["removed"]) == (False, True, [])


def test_inodes_count_as_space():
    with full(nr_inodes=40) as folder:
        for number in range(60):
            with contextlib.suppress(OSError):
                lay(folder / f"s{number}", age=number, size=0)
        assert os.statvfs(folder).f_favail == 0
        result = disk_reclaim.reclaim(
            rules=[Rule(f"{folder}/s*")], targets=[Target(path=str(folder), inodes=5)], state_dir="/nowhere"
        )
        assert (result["enough"], len(result["removed"]), result["targets"][0]["inodes_freed"]) == (True, 5, 5)
        assert os.statvfs(folder).f_favail == 5


def test_with_enough_space_nothing_is_deleted(logs):
    kept = lay(logs / "app.log.1", age=1)
    result = reclaim(logs, logs / "*", wanted=-MIB)
    assert (result["changed"], result["enough"]) == (False, True)
    assert kept.exists()


def test_too_little_space_is_reported_after_all_files_are_deleted(logs):
    gone = lay(logs / "app.log.1", age=1)
    result = reclaim(logs, logs / "app.log.*")
    assert (result["changed"], result["enough"]) == (True, False)
    assert not gone.exists()


def test_files_on_another_file_system_are_kept(logs):
    with full() as folder:
        kept = lay(folder / "app.log.1", age=1)
        result = reclaim(logs, folder / "*")
        assert (result["removed"], kept.exists()) == ([], True)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("*.log", {"a.log"}),
        ("*", {"a.log", "b.log.1", "b.log.2"}),
        ("b.log.[1]", {"b.log.1"}),
        ("b.log.?", {"b.log.1", "b.log.2"}),
        (".*", {".hidden"}),
        ("old/*.gz", {"c.gz"}),
        ("o*/*", {"c.gz", "d"}),
        ("**", {"a.log", "b.log.1", "b.log.2", "c.gz", "d", "e.gz"}),
        ("**/*.gz", {"c.gz", "e.gz"}),
        ("none/*", set()),
        ("a.log/*", set()),
    ],
)
def test_patterns(logs, pattern, named):
    for name in ("a.log", "b.log.1", "b.log.2", ".hidden", "old/c.gz", "old/d", "old/deep/e.gz"):
        lay(logs / name, age=1, size=1)
    result = reclaim(logs, logs / pattern, check_mode=True)
    assert {Path(entry["path"]).name for entry in result["removed"]} == named
    assert result["skipped"] == []


def test_the_newest_files_are_kept_if_the_rule_keeps_some(logs):
    for number in range(1, 5):
        lay(logs / f"backup_{number}", age=number)
    result = reclaim(logs, Rule(f"{logs}/backup_*", keep=3))
    assert paths(result["removed"]) == [f"{logs}/backup_4"]
    assert len(list(logs.iterdir())) == 3


def test_a_file_kept_by_one_rule_is_kept_by_all(logs):
    lay(logs / "backup_1", age=1)
    result = reclaim(logs, logs / "*", Rule(f"{logs}/backup_*", keep=1))
    assert result["removed"] == []


def test_names_may_contain_any_byte(logs):
    (logs / os.fsdecode(b"a\xff\n.log")).write_bytes(b"x" * MIB)
    result = reclaim(logs, logs / "*.log")
    assert paths(result["removed"]) == [f"{logs}/a\ufffd\n.log"]
    assert list(logs.iterdir()) == []


# Files that are being written


@contextlib.contextmanager
def opened(path: Path, mode: str = "ab"):
    """Make another process keep a file open."""
    with path.open(mode) as own:
        process = subprocess.Popen(["sleep", "60"], stdin=own)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mode", ["ab", "rb"])
def test_an_open_file_is_never_touched(logs, mode):
    old, path = lay(logs / "server.log.1", age=9), lay(logs / "server.log", age=99)
    with opened(path, mode):
        result = reclaim(logs, logs / "*")
    assert (paths(result["removed"]), path.stat().st_size, old.exists()) == ([str(old)], MIB, False)
    assert reasons(result) == {"server.log": "a process has it open"}
    assert [(item["path"], item["size"]) for item in result["kept"]] == [(str(path), MIB)]


@pytest.mark.parametrize("is_open", [True, False])
def test_of_dated_logs_only_the_newest_of_each_series_is_kept(logs, is_open):
    names = [f"{kind}-2026-11-{day}.log" for kind in ("app", "error") for day in (24, 25, 26)]
    files = [lay(logs / name, age=60 - int(name.partition(".")[0][-2:])) for name in [*names, "app-2026-11-23.log.gz"]]
    newest = [path for path in files if path.name.endswith("26.log")]
    with contextlib.ExitStack() as stack:
        for path in newest if is_open else ():
            stack.enter_context(opened(path))
        result = reclaim(logs, Rule(f"{logs}/*.log*", keep=0 if is_open else 1))
    assert sorted(logs.iterdir()) == newest
    assert len(result["removed"]) == 5
    # The largest remaining files are listed, because there is still too little space.
    assert [item["path"] for item in result["kept"]] == [str(path) for path in newest]


@pytest.mark.parametrize(
    ("name", "series"),
    [
        *[(name, "serverlog") for name in ("server.log", "server.log.1", "server.log.2.gz", "server.log-20261125.xz")],
        *[(name, "applog") for name in ("app-2026-11-26.log", "app-2026-11-26.log.gz", "app-2026-11-26T01:02:03Z.log")],
        ("error-2026-11-26.log", "errorlog"),
        *[(f"itsm.db.backup_{at}", "itsmdbbackup") for at in ("20260301_030000", "20260302T180258Z")],
        ("2026-11-26", ""),
    ],
)
def test_names_of_a_series_differ_only_in_numbers_times_and_compression(logs, name, series):
    assert reclaim_patterns.Candidate(folder="/x", name=name, status=os.stat(logs)).series == series


def test_if_processes_are_hidden_the_newest_file_of_others_is_kept(logs, monkeypatch):
    for name, age in (("mine", 3), ("other", 1), ("other.1", 2)):
        lay(logs / name, age=age)
    copy = database(logs / "other.db", age=4)
    database(logs / "newest.db", age=1)
    monkeypatch.setattr(disk_reclaim, "_open_files", lambda _proc_root: (set(), disk_reclaim._Hidden.OTHER_USERS))
    uid = os.geteuid()
    real = os.stat

    class Other:
        """The stat result for a file that another user owns."""

        def __init__(self, status):
            self._status = status

        def __getattr__(self, name):
            return uid + 1 if name == "st_uid" else getattr(self._status, name)

    def stat(path, *arguments, **options):
        found = real(path, *arguments, **options)
        return Other(found) if str(path).startswith("other") else found

    monkeypatch.setattr(os, "stat", stat)
    lay(logs / "other.2.db", age=0)
    result = reclaim(logs, logs / "*")
    assert [Path(path).name for path in paths(result["removed"])] == ["mine", "other.1"]
    assert reasons(result) == {"other.db": "it is a database that a process may have open"}
    assert copy.exists()


def test_if_the_search_for_open_files_was_stopped_the_newest_files_are_kept(logs, monkeypatch):
    for name, age in (("a.log", 1), ("a.log.1", 2), ("b.log", 3)):
        lay(logs / name, age=age)
    database(logs / "itsm.db", age=4)
    database(logs / "itsm.2.db", age=2)
    monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 0)
    result = reclaim(logs, Rule(f"{logs}/*", keep=0))
    assert [Path(path).name for path in paths(result["removed"])] == ["a.log.1"]
    assert reasons(result) == {"itsm.db": "it is a database that a process may have open"}


# Files that are never deleted


def test_links_are_not_followed(logs, tmp_path):
    outside = tmp_path / "outside"
    precious = lay(outside / "precious.log", age=9)
    (logs / "link.log").symlink_to(precious)
    (logs / "folder").symlink_to(outside)
    result = reclaim(logs, logs / "*", logs / "folder" / "*", logs / "*" / "*.log", logs / "**" / "*.log")
    assert result["removed"] == []
    assert precious.stat().st_size == MIB
    assert reasons(result) == {
        "link.log": "it is a symbolic link",
        "folder": "it is reached through a symbolic link; specify its real path",
    }


def test_a_linked_parent_folder_is_reported(logs, tmp_path):
    lay(logs / "app.log", age=1)
    (tmp_path / "linked").symlink_to(logs)
    result = reclaim(logs, tmp_path / "linked" / "app.log")
    assert result["removed"] == []
    assert reasons(result) == {"linked": "it is reached through a symbolic link; specify its real path"}


def test_a_folder_replaced_with_a_link_after_the_check_is_not_entered(logs, tmp_path, monkeypatch):
    inner = lay(logs / "old" / "app.log", age=1).parent
    outside = tmp_path / "outside"
    precious = lay(outside / "app.log", age=1)
    look = disk_reclaim._Reclaim.take

    def swap_first(self, candidate):
        shutil.rmtree(inner)
        inner.symlink_to(outside)
        look(self, candidate)

    monkeypatch.setattr(disk_reclaim._Reclaim, "take", swap_first)
    result = reclaim(logs, logs / "old" / "*")
    assert (result["removed"], precious.exists()) == ([], True)
    assert "cannot be removed" in reasons(result)["app.log"]


def test_a_file_replaced_after_the_check_is_kept(logs, tmp_path, monkeypatch):
    path = lay(logs / "app.log", age=1)
    other = lay(tmp_path / "other", age=1)
    look = disk_reclaim._Reclaim.take

    def swap_first(self, candidate):
        other.replace(path)
        look(self, candidate)

    monkeypatch.setattr(disk_reclaim._Reclaim, "take", swap_first)
    result = reclaim(logs, logs / "*")
    assert (result["changed"], path.stat().st_size) == (False, MIB)


def test_a_file_with_a_hard_link_is_kept(logs, tmp_path):
    path = lay(logs / "app.log", age=1)
    os.link(path, tmp_path / "passwd")
    result = reclaim(logs, logs / "*")
    assert (result["changed"], path.stat().st_size) == (False, MIB)
    assert reasons(result) == {"app.log": "it has 2 hard links: removing one frees no space"}


def test_only_regular_files_are_deleted(logs):
    os.mkfifo(logs / "fifo")
    (logs / "folder").mkdir()
    result = reclaim(logs, logs / "*")
    assert (result["changed"], result["skipped"]) == (False, [])
    assert {path.name for path in logs.iterdir()} == {"fifo", "folder"}


def database(path: Path, *, age: int = 5) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def files_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_database_in_use_is_never_touched(logs):
    path = logs / "itsm.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    os.utime(database(logs / "itsm.db.backup_9"), (1 << 33, 1 << 33))  # The newest backup is never deleted.
    before = files_of(logs)
    result = reclaim(logs, logs / "itsm.db*")
    assert (result["changed"], files_of(logs)) == (False, before)
    assert set(reasons(result)) == {"itsm.db", "itsm.db-wal", "itsm.db-shm"}
    connection.close()


def test_a_database_without_side_files_that_another_process_has_open_is_never_touched(logs):
    path = database(logs / "other.db")
    newest = database(logs / "newest.db", age=1)
    with opened(path, "rb"):
        result = reclaim(logs, logs / "*.db")
    assert (result["changed"], reasons(result)) == (False, {"other.db": "a process has it open"})
    assert path.stat().st_size > 100000 and newest.exists()


def test_the_only_copy_of_a_database_is_kept(logs):
    old, new = database(logs / "itsm.db.backup_1", age=9), database(logs / "itsm.db.backup_2", age=1)
    result = reclaim(logs, logs / "itsm.db.backup_*")
    assert paths(result["removed"]) == [str(old)]
    assert new.exists()


@pytest.mark.parametrize("keep", [0, 2])
def test_incomplete_copies_do_not_count(logs, keep):
    whole = [database(logs / f"itsm.db.backup_{age}", age=age) for age in (30, 20, 10)]
    cut = [shutil.copy(whole[0], logs / f"itsm.db.backup_{age}") for age in (3, 2)] + [logs / "itsm.db.backup_1"]
    for number, path in enumerate(cut):
        with open(path, "ab") as stream:
            stream.truncate((8192, 4096, 0)[number])
        os.utime(path, (1_700_000_000 - 3 + number, 1_700_000_000 - 3 + number))
    reclaim(logs, Rule(f"{logs}/itsm.db.backup_*", keep=keep))
    assert [path.exists() for path in whole] == ([False, True, True] if keep else [False, False, True])


def test_every_copy_is_kept_while_the_database_is_not_known_to_be_sound(logs):
    copies = [database(logs / f"itsm.db.backup_{age}", age=age) for age in (30, 20, 10)]
    log = lay(logs / "server.log.1", age=1)
    rules = [Rule(f"{logs}/itsm.db.backup_*", keep=1), logs / "*"]
    result = reclaim(logs, *rules, keep_databases=True)
    assert paths(result["removed"]) == [str(log)]
    assert all(path.exists() for path in copies)


def test_a_protected_database_is_kept_under_all_its_names(logs):
    path = database(logs / "itsm.db")
    newer = database(logs / "newer.db", age=1)
    (logs / "itsm.db-wal").write_bytes(b"x" * MIB)
    folder = logs / "kept"
    lay(folder / "deep" / "file", age=1)
    (logs.parent / "alias.db").symlink_to(path)
    result = reclaim(logs, logs / "**", protect=[str(logs.parent / "alias.db"), str(folder)])
    assert result["removed"] == []
    assert path.exists() and newer.exists() and (folder / "deep" / "file").exists()
    assert reasons(result)["itsm.db"] == reasons(result)["itsm.db-wal"] == reasons(result)["file"] == "it is protected"


def test_evidence_is_never_deleted(logs):
    evidence = lay(logs / "state" / "evidence" / "INC-1" / "server.log", age=99)
    result = reclaim(logs, logs / "**", state_dir=str(logs / "state"))
    assert (result["changed"], evidence.exists()) == (False, True)


# Rules that are rejected


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "/var/log/**",
            "/var/log/itsm/server.log*",
            "/var/log//itsm/*.gz",
            "/data/*.bak",
            "/home/itsm/.npm/_cacache/**",
        ),
        *("/mnt/LinuxHDD/ITSM-System/backend/itsm.db.backup_*", "/usr/local/itsm/logs/*", "/var/lib/itsm/[0-9]*/x"),
    ],
)
def test_common_patterns_are_not_rejected_as_too_wide(pattern):
    assert reclaim_patterns.why_not_pattern(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "keep", "message"),
    [
        ("relative/*", 0, "globs: 'relative/*' must be an absolute path pattern"),
        ("/var/log/../../etc/*", 0, "without . and .."),
        ("/./[a-z]*/*", 0, "without . and .."),
        ("/var/log/", 0, "not ending with /"),
        ("/*", 0, "must specify a folder below the root"),
        ("/**/*.log", 0, "must specify a folder below the root"),
        ("/*/*", 0, "must specify a folder below the root"),
        ("/[a-z]*/*", 0, "must specify a folder below the root"),
        ("//[!x]*/log/*", 0, "must specify a folder below the root"),
        ("/*/log/app.log", 0, "must specify a folder below the root"),
        ("/etc/passwd", 0, "must not match system files, and all files below /etc are system files"),
        ("/etc/cron.d/*", 0, "must not match system files"),
        ("/usr/lib/**", 0, "must not match system files"),
        ("/usr/local/*", 0, "must not match system files"),
        ("/usr/local/**/*.log", 0, "must not match system files"),
        ("/home/**", 0, "must specify one folder in /home, for example /home/name/**"),
        ("/var/**/*.log", 0, "for example /var/name/**/*.log"),
        ("/var/?og/*", 0, "for example /var/name/?og/*"),
        ("/var/lib/*/*", 0, "for example /var/lib/name/*/*"),
        ("/var/log/*", -1, "'keep' of '/var/log/*' is -1: must be 0 or more"),
    ],
)
def test_invalid_rules(logs, pattern, keep, message):
    with pytest.raises(DiskReclaimError) as caught:
        reclaim(logs, Rule(pattern, keep=keep))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(path="relative"), "targets: 'relative' must be an absolute path"),
        (Target(path="/", available=-1), "bytes and inodes must be 0 or more"),
        (Target(path="/nowhere/at/all"), "targets: cannot check the file system of /nowhere/at/all: No such file"),
    ],
)
def test_invalid_targets(target, message):
    with pytest.raises(DiskReclaimError) as caught:
        disk_reclaim.reclaim(rules=[], targets=[target], state_dir="/nowhere")
    assert message in str(caught.value)


# The rights that are used to remove files


def test_files_in_a_folder_of_another_account_are_not_removed(shared):
    """The service's user chooses the path of the database, which could be in another account's folder."""
    theirs = lay(shared / "theirs" / "itsm.db.backup_1", age=9)
    os.chown(theirs.parent, pwd.getpwnam("daemon").pw_uid, 0)
    for check_mode in (True, False):
        result = reclaim(shared, shared / "*" / "itsm.db.backup_*", user="nobody", check_mode=check_mode)
        assert (paths(result["removed"]), theirs.exists()) == ([], True)
        assert [each["reason"] for each in result["skipped"]] == ["cannot be removed: Permission denied"]
    # A folder that this user cannot enter is not even listed.
    theirs.parent.chmod(0o700)
    result = reclaim(shared, shared / "theirs" / "itsm.db.backup_*", user="nobody")
    assert str(theirs) not in str(result)


def test_only_root_controls_the_folder(shared):
    """Files that match an as_user pattern are removed with the user's rights, all other files with root's rights."""
    rotated = lay(shared / "log" / "server.log.1", age=9)
    result = reclaim(shared, Rule(str(shared / "log" / "*"), as_user=True), user="nobody")
    assert (paths(result["removed"]), rotated.exists()) == ([], True)
    assert paths(reclaim(shared, shared / "log" / "*", user="nobody")["removed"]) == [str(rotated)]


def test_the_user_may_remove_files_of_root_in_its_own_folder(shared):
    copy = lay(shared / "closed" / "own" / "itsm.db.backup_1", age=9)
    os.chown(copy.parent, pwd.getpwnam("nobody").pw_uid, 0)
    copy.parent.chmod(0o300)
    copy.parent.parent.chmod(0o711)  # can be entered, but not listed
    assert reclaim(shared, copy, user="nobody")["removed"] == []  # the folder cannot be listed
    copy.parent.chmod(0o700)
    assert paths(reclaim(shared, Rule(str(copy), as_user=True), user="nobody")["removed"]) == [str(copy)]


@pytest.mark.parametrize(
    ("user", "as_user", "said"), [("", True, "must be set"), ("no-such", False, "no user 'no-such'")]
)
def test_root_never_acts_instead_of_an_unknown_user(shared, user, as_user, said):
    with pytest.raises(DiskReclaimError, match=f"^user: .*{said}"):
        reclaim(shared, Rule(str(shared / "*"), as_user=as_user), user=user)


def test_a_folder_that_several_accounts_can_change_needs_a_user(shared):
    file = lay(shared / "open" / "log.1", age=9)
    file.parent.chmod(0o777)
    result = reclaim(shared, shared / "open" / "*")
    assert (result["removed"], file.exists()) == ([], True)
    assert result["skipped"][0]["path"] == str(file.parent)
    for user in ("nobody", "root"):  # the service may run as root
        lay(file, age=9)
        assert paths(reclaim(shared, shared / "open" / "*", user=user)["removed"]) == [str(file)]


# Limits on a search


def test_folders_that_are_nested_too_deeply_are_skipped(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    # If the path had more folders, it would exceed the recursion limit of Python.
    result = reclaim(tmp_path, tmp_path / "**", lay(tmp_path / "log", age=9))
    assert paths(result["removed"]) == [str(tmp_path / "log")]
    assert [each["reason"] for each in result["skipped"]] == ["it is below more than 50 folders"]


@pytest.mark.parametrize("limit", ["_MOST_NAMES", "_MOST_SECONDS"])
def test_a_search_has_limits(logs, monkeypatch, limit):
    for number in range(20):
        lay(logs / f"{number % 4}" / f"{number}.log", age=number)
    monkeypatch.setattr(reclaim_patterns, limit, 3 if limit == "_MOST_NAMES" else 0)
    result = reclaim(logs, logs / "**")
    assert "too many files" in result["skipped"][0]["reason"]
    assert len(result["removed"]) < 3
