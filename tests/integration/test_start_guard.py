# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the three programs of the start_guard role: the guard decides, the recorder reports, and the keeper saves files.

With TEST_THOROUGH (make nightly), the writer is killed 150 times.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlite_samples as samples

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "start_guard" / "files"
sys.path.insert(0, str(FILES))
common, guard, recorder, keeper = (
    importlib.import_module(name) for name in ("guard_common", "start_guard", "restart_recorder", "guard_keeper")
)
KILLS = 150 if os.environ.get("TEST_THOROUGH") else 8
FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def config(tmp_path):
    """The configuration of a guard whose files are in a temporary folder."""
    (tmp_path / "state").mkdir()
    (tmp_path / "app").mkdir()
    return common.Config(
        unit="itsm.service",
        database=str(tmp_path / "app" / "itsm.db"),
        user="nobody",
        state_dir=str(tmp_path / "state"),
        known=str(tmp_path / "known.json"),
        socket=str(tmp_path / "sock"),
        logs=[str(tmp_path / "app" / "*.log")],
    )


def judged(config):
    """Return the code of the doubt that the current files cause, or None."""
    known = common.known_state(config.known, database=config.database)
    state = common.examine(config.database)
    doubt = guard.judge(state, known)
    if doubt is not None and guard.is_released(doubt, state, known):
        return None
    return doubt.code if doubt else None


def keep(config, kind, *, invocation=FIRST, boot="boot-1", parts=None, **values):
    """Make the keeper save a message as if systemd had confirmed the invocation.

    Return True if the message was saved.
    """
    state = common.examine(config.database, compare=kind == "end")
    message = {"kind": kind, "invocation": invocation, "state": common.summary(state), **values}
    sub_state = values.pop("sub_state", "stop-post" if kind == "end" else "condition")
    properties = {"InvocationID": invocation, "NRestarts": values.pop("restarts", "0"), "SubState": sub_state}
    message = json.loads(json.dumps(message))
    return keeper.Keeper(config, properties=properties, boot=boot).keep(message, parts or {})


def end(config, **values):
    since = (common.known_state(config.known, database=config.database).get("start") or {}).get("ns") or 0
    lacking = common.lacking(common.examine(config.database), since_ns=since)
    told = {"result": "signal", "code": "killed", "signal": "SIGKILL", "lacking": lacking}
    return keep(config, "end", **{**told, **values})


def cut(path, size):
    os.truncate(path, size)


# Each state has a function that creates it from a crashed database with rows in the WAL, and the code of the expected
# doubt.
DOUBTFUL = {
    "database missing": (os.unlink, "missing"),
    "database empty": (lambda db: cut(db, 0), "empty_beside_wal"),
    "database and WAL missing": (lambda db: [os.unlink(db), os.unlink(f"{db}-wal")], "missing"),
    "database and WAL empty": (lambda db: [cut(db, 0), cut(f"{db}-wal", 0)], "empty"),
    "one byte, which SQLite treats as empty": (lambda db: cut(db, 1), "empty_beside_wal"),
    "other content": (lambda db: samples.patch(db, 0, b"not a database"), "not_a_database"),
    "cut in the header": (lambda db: cut(db, 60), "truncated"),
    "cut, and the WAL too": (
        lambda db: [cut(db, os.path.getsize(db) - 4096), cut(f"{db}-wal", os.path.getsize(f"{db}-wal") - 9000)],
        "wal_short",
    ),
    "cut in the header, and the WAL too": (
        lambda db: [cut(db, 60), cut(f"{db}-wal", 32 + 4120 * 20)],
        "truncated",
    ),
    "a folder in its place": (lambda db: [os.unlink(db), os.mkdir(db)], "not_a_file"),
    "a pipe in its place": (lambda db: [os.unlink(db), os.mkfifo(db)], "not_a_file"),
    "a pipe instead of the WAL": (lambda db: [os.unlink(f"{db}-wal"), os.mkfifo(f"{db}-wal")], "not_a_file"),
    "a link that leads nowhere": (lambda db: [os.unlink(db), os.symlink("/nonexistent/x", db)], "folder_missing"),
    "WAL missing": (lambda db: os.unlink(f"{db}-wal"), "wal_missing"),
    "WAL empty": (lambda db: cut(f"{db}-wal", 0), "wal_missing"),
    "only the header of the WAL": (lambda db: cut(f"{db}-wal", 32), "wal_missing"),
    "WAL cut in a frame": (lambda db: cut(f"{db}-wal", os.path.getsize(f"{db}-wal") - 5000), "wal_short"),
    "WAL filled with zeros": (
        lambda db: [size := os.path.getsize(f"{db}-wal"), cut(f"{db}-wal", size // 2), cut(f"{db}-wal", size)],
        "wal_short",
    ),
    "WAL header damaged": (lambda db: samples.flip(f"{db}-wal", 24), "wal_damaged"),
    "WAL magic damaged": (lambda db: samples.patch(f"{db}-wal", 0, b"\0\0\0\0"), "wal_damaged"),
    "WAL salts damaged": (lambda db: samples.flip(f"{db}-wal", 44), "wal_foreign"),
    "last pages missing": (lambda db: cut(db, os.path.getsize(db) // 2), "truncated"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_doubtful_database_is_refused(config, case):
    damage, code = DOUBTFUL[case]
    samples.crashed(config.database)
    assert keep(config, "start") and end(config)
    assert judged(config) is None
    damage(config.database)
    assert judged(config) == code


@pytest.mark.parametrize(
    "case",
    [
        *("database missing", "database empty", "other content", "a pipe in its place", "WAL header damaged"),
        *("WAL salts damaged", "last pages missing"),
    ],
)
def test_these_states_are_refused_even_if_nothing_was_recorded(config, case):
    damage, code = DOUBTFUL[case]
    samples.crashed(config.database)
    damage(config.database)
    assert judged(config) == code


def other_wal(db):
    samples.crashed(f"{db}.other", in_database=10, in_wal=90)
    os.replace(f"{db}.other-wal", f"{db}-wal")


def test_a_wal_of_another_database_is_refused(config):
    samples.crashed(config.database)
    assert end(config)
    other_wal(config.database)
    assert judged(config) == "wal_foreign"


def appended(path, data):
    with open(path, "ab") as stream:
        stream.write(data)


def by_sqlite(db, statement):
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute(statement).fetchall()
    connection.close()


def restored(db):
    """Restore the database as a person would: replace it and delete its WAL."""
    samples.closed(f"{db}.backup", rows=50)
    os.replace(f"{db}.backup", db)
    os.unlink(f"{db}-wal")


SOUND = {
    "unchanged": lambda db: None,
    "index deleted": lambda db: os.path.exists(f"{db}-shm") and os.unlink(f"{db}-shm"),
    "index damaged": lambda db: Path(f"{db}-shm").write_bytes(os.urandom(32768)),
    "opened by another program": lambda db: by_sqlite(db, "SELECT count(*) FROM incidents"),
    "written by another program": lambda db: by_sqlite(db, "INSERT INTO users VALUES (77, 'x')"),
    "checkpointed": lambda db: by_sqlite(db, "PRAGMA wal_checkpoint(TRUNCATE)"),
    "no WAL mode": lambda db: by_sqlite(db, "PRAGMA journal_mode=DELETE"),
    "vacuumed": lambda db: by_sqlite(db, "VACUUM"),
    "restored": restored,
    "a torn frame at the end": lambda db: appended(f"{db}-wal", os.urandom(3000)),
    "zeros at the end": lambda db: appended(f"{db}-wal", bytes(20000)),
    "read by everybody": lambda db: os.chmod(db, 0o666),  # noqa: S103
}


@pytest.mark.parametrize("case", SOUND)
def test_a_sound_database_is_not_refused(config, case):
    samples.crashed(config.database, shm=True)
    assert keep(config, "start") and end(config)
    SOUND[case](config.database)
    assert judged(config) is None


def in_the_wal(db):
    """Create a database whose pages are all in the WAL, as after the first start of a service."""
    connection = sqlite3.connect(f"{db}.new", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    samples.schema(connection)
    samples.fill(connection, first=1, rows=50)
    for suffix in ("", "-wal"):
        shutil.copy(f"{db}.new{suffix}", db + suffix)
    connection.close()


@pytest.mark.parametrize("size", [4095, 4000, 99, 60, 10, 2])
def test_a_database_whose_pages_are_all_in_the_wal_may_be_cut(config, size):
    in_the_wal(config.database)
    assert os.path.getsize(config.database) == 4096
    assert keep(config, "start") and end(config)
    cut(config.database, size)
    assert judged(config) is None
    copy = f"{config.database}.copy"
    for suffix in ("", "-wal"):
        shutil.copy(config.database + suffix, copy + suffix)
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM incidents").fetchone() == (50,)
    connection.close()
    # If one of the transactions is missing from the WAL, the database is in doubt.
    cut(f"{config.database}-wal", os.path.getsize(f"{config.database}-wal") - 100)
    assert judged(config) == "wal_short"


def test_a_new_installation_is_not_refused(config):
    assert judged(config) is None
    assert keep(config, "start")
    assert judged(config) is None


def test_a_database_that_is_not_mounted_is_refused_without_a_doubt_about_its_rows(config, tmp_path):
    samples.closed(config.database)
    assert keep(config, "start")
    folder = Path(config.database).parent
    folder.rename(tmp_path / "moved")
    assert judged(config) == "folder_missing"
    (tmp_path / "fstab").write_text(f"# comment\n/dev/x {folder} ext4 defaults 0 2\n")
    assert guard._away(config.database, str(tmp_path / "fstab")).code == "not_mounted"
    assert not any(common.KINDS[code].of_data for code in ("not_mounted", "folder_missing"))


def test_a_deleted_database_is_remembered_also_after_the_next_end(config):
    samples.closed(config.database)
    assert keep(config, "start")
    os.unlink(config.database)
    assert end(config)
    assert judged(config) == "missing"


def test_a_wal_that_was_cut_while_the_service_ran_is_refused(config):
    samples.crashed(config.database)
    assert keep(config, "start")
    time.sleep(0.01)
    process = writer(config.database, pause=0.0, checkpoint=0)
    acknowledged(process, at_least=30)
    os.kill(process.pid, signal.SIGSTOP)
    cut(f"{config.database}-wal", 32 + 4120 * 3)
    process.kill()
    process.wait()
    assert end(config)
    assert judged(config) == "wal_short"
    assert (
        "lacked"
        in guard.judge(common.examine(config.database), common.known_state(config.known, database=config.database)).text
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_file_that_the_user_cannot_write_to_is_refused(config, suffix):
    samples.crashed(config.database, shm=True)
    os.chmod(Path(config.database).parent, 0o777)  # noqa: S103
    for each in ("", "-wal", "-shm"):
        os.chmod(config.database + each, 0o666)  # noqa: S103
    os.chmod(config.database + suffix, 0o644)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os.write(writing, str(common.examine(config.database)["problem"]).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert "no_access" in os.read(reading, 4096).decode()


def test_a_released_state_is_accepted_and_a_later_change_is_not(config):
    samples.crashed(config.database)
    assert keep(config, "start") and end(config)
    os.unlink(f"{config.database}-wal")
    assert judged(config) == "wal_missing"
    state = common.examine(config.database)
    stamps = {name: common.stamp(state[name]) for name in ("database", "wal")}
    known = json.loads(Path(config.known).read_text())
    Path(config.known).write_text(json.dumps({**known, "released": {"stamps": stamps, "accepted": []}}))
    assert judged(config) is None
    cut(config.database, 0)
    assert judged(config) == "empty"


def test_a_hold_on_the_disk_is_found_before_systemd_has_read_it(tmp_path):
    folders = [str(tmp_path / "etc"), str(tmp_path / "run")]
    assert guard.hold_of("itsm.service", folders) is None
    hold = tmp_path / "run" / "itsm.service.d" / "zz-held-INC-20260302T010203Z-1f3a.conf"
    hold.parent.mkdir(parents=True)
    hold.touch()
    assert guard.hold_of("itsm.service", folders).code == "held"
    assert "INC-20260302T010203Z-1f3a" in guard.hold_of("itsm.service", folders).text
    assert guard.hold_of("other.service", folders) is None


WRITER = """
import random, sqlite3, sys, time
path, seed, pause, checkpoint = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
connection = sqlite3.connect(path, isolation_level=None, timeout=30)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=NORMAL")
connection.execute(f"PRAGMA wal_autocheckpoint={checkpoint}")
connection.execute(f"PRAGMA cache_size={chance.choice([10, 2000])}")
connection.execute("CREATE TABLE IF NOT EXISTS written (id INTEGER PRIMARY KEY, body BLOB)")
last = connection.execute("SELECT coalesce(max(id), 0) FROM written").fetchone()[0]
while True:
    rows = chance.choice([1, 1, 1, 5, 200])
    connection.execute("BEGIN IMMEDIATE")
    for number in range(last + 1, last + rows + 1):
        connection.execute("INSERT INTO written VALUES (?, randomblob(?))", (number, chance.choice([10, 900, 9000])))
    connection.execute("COMMIT")
    last += rows
    print(last, flush=True)
    if checkpoint and chance.random() < 0.1:
        kind = chance.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
        connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchall()
    if checkpoint and chance.random() < 0.05:
        connection.execute("DELETE FROM written WHERE id % 7 = 3 AND id < ?", (last,))
        connection.execute("PRAGMA incremental_vacuum")
    time.sleep(pause)
"""


def writer(path, *, seed=1, pause=0.001, checkpoint=40):
    arguments = [sys.executable, "-c", WRITER, path, str(seed), str(pause), str(checkpoint)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def acknowledged(process, *, at_least):
    for line in process.stdout:
        if int(line) >= at_least:
            return int(line)
    raise AssertionError("the writer exited")


def test_a_writer_that_is_killed_at_any_moment_leaves_a_state_that_is_not_refused(config):
    chance = random.Random(20261129)  # noqa: S311
    refused = []
    for number in range(KILLS):
        pause, checkpoint = chance.choice([0, 0.001]), chance.choice([0, 40])
        process = writer(config.database, seed=number, pause=pause, checkpoint=checkpoint)
        assert keep(config, "start", invocation=f"{number:032x}")
        acknowledged(process, at_least=1)
        time.sleep(chance.random() * 0.25)
        process.kill()
        told = [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
        process.wait()
        # After a power failure, there is no record of the process's exit.
        if chance.random() < 0.6:
            assert end(config, invocation=f"{number:032x}")
        if judged(config) is not None:
            known = common.known_state(config.known, database=config.database)
            refused.append(guard.judge(common.examine(config.database), known))
        # Perform an independent check on a copy.
        copy = f"{config.database}.copy"
        for suffix in ("", "-wal"):
            if os.path.exists(config.database + suffix):
                shutil.copyfile(config.database + suffix, copy + suffix)
        connection = sqlite3.connect(copy)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT coalesce(max(id), 0) FROM written").fetchone()[0] >= max(told, default=0)
        connection.close()
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(copy + suffix):
                os.unlink(copy + suffix)
        if number % 10 == 9:
            for suffix in ("-wal", "-shm", ""):
                if os.path.exists(config.database + suffix):
                    os.unlink(config.database + suffix)
            os.unlink(config.known)
    assert refused == []


def test_a_checkpoint_that_was_interrupted_is_not_refused(config):
    """The checkpoint was interrupted after it copied some of the pages.

    A checkpoint copies page 1 either first or last.
    """
    samples.crashed(config.database, in_database=20, in_wal=300)
    frames = common.examine(config.database)["frames"]
    wal = Path(f"{config.database}-wal").read_bytes()
    pages = sorted(frames.last)
    for order in (pages, pages[::-1]):
        for number, page in enumerate(order):
            at = 32 + frames.last[page] * 4120 + 24
            with open(config.database, "r+b") as stream:
                stream.seek((page - 1) * 4096)
                stream.write(wal[at : at + 4096])
            if number % 5 == 0:
                assert judged(config) is None


def test_the_recorder_reads_special_files_without_blocking(config, tmp_path):
    os.mkfifo(tmp_path / "app" / "pipe.log")
    assert recorder.newest(config.logs) is None
    assert recorder.last_lines(str(tmp_path / "app" / "pipe.log"))["lines"] == []
    log = tmp_path / "app" / "app.log"
    log.write_bytes(b"x" * 100_000 + b"\n" + b"".join(b"line %d \xff\n" % number for number in range(40)))
    told = recorder.last_lines(recorder.newest(config.logs))
    assert len(told["lines"]) == 20
    assert told["lines"][-1].startswith("line 39")


@pytest.mark.parametrize(
    ("environment", "ending"),
    [
        (("signal", "killed", "SEGV"), {"result": "signal", "code": "killed", "status": None, "signal": "SIGSEGV"}),
        (("signal", "dumped", "ABRT"), {"result": "signal", "code": "dumped", "status": None, "signal": "SIGABRT"}),
        (("exit-code", "exited", "3"), {"result": "exit-code", "code": "exited", "status": 3, "signal": None}),
        (("success", "exited", "0"), {"result": "success", "code": "exited", "status": 0, "signal": None}),
        (("timeout", "", ""), {"result": "timeout", "code": None, "status": None, "signal": None}),
    ],
)
def test_the_recorder_reports_what_systemd_says(environment, ending):
    names = ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")
    assert recorder.ending(dict(zip(names, environment))) == ending


def test_the_recorder_finds_the_systemctl_process_that_waits(tmp_path):
    for pid, words in ((7, "systemctl status itsm"), (8, "systemctl stop other"), (9, "systemctl --wait restart itsm")):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "comm").write_text("systemctl\n")
        (folder / "cmdline").write_text(words.replace(" ", "\0") + "\0")
        (folder / "loginuid").write_text("1000")
    found = recorder.stopped_by("itsm.service", str(tmp_path))
    assert (found["pid"], found["login_uid"], found["command"]) == (9, 1000, "systemctl --wait restart itsm")
    assert recorder.stopped_by("nobody.service", str(tmp_path)) is None


def unconfirmed(config, kind, invocation, **values):
    message = {"kind": kind, "invocation": invocation, "state": {}, **values}
    return keeper.Keeper(config, properties={"InvocationID": "f" * 32}, boot="boot-1").keep(message, {})


def ends(config):
    paths = sorted((Path(config.state_dir) / "ends" / "itsm").glob("end-*"))
    return [json.loads(path.read_text()) for path in paths]


def test_an_end_is_saved_once(config):
    assert keep(config, "start") and end(config)
    assert not end(config)
    assert [each["confirmed"] for each in ends(config)] == [True]
    folder = Path(config.state_dir) / "ends" / "itsm"
    assert all(path.stat().st_mode & 0o077 == 0 for path in [folder, *folder.iterdir()])


def test_an_invented_end_never_displaces_one_that_systemd_confirmed(config, monkeypatch):
    monkeypatch.setattr(keeper, "MOST_ENDS", 3)
    assert end(config)
    for number in range(10):
        assert unconfirmed(config, "end", f"{number:032x}")
    assert [each["confirmed"] for each in ends(config)].count(True) == 1
    assert len(ends(config)) == 4


@pytest.mark.parametrize("sub_state", ["running", "start", "start-pre", "condition", "reload", "stop-sigterm", ""])
def test_an_end_that_the_user_invents_while_the_service_runs_does_not_hide_the_real_one(config, sub_state):
    samples.crashed(config.database)
    assert keep(config, "start")
    before = common.known_state(config.known, database=config.database)
    assert keep(config, "end", sub_state=sub_state, result="success", code="exited", status=0)
    assert [(each["confirmed"], each["result"]) for each in ends(config)] == [(False, "success")]
    # The guard does not compare the files with a state that the user forged.
    assert common.known_state(config.known, database=config.database).get("end") == before.get("end")
    assert not keep(config, "end", sub_state=sub_state, result="success")
    assert end(config)
    assert [(each["confirmed"], each["result"]) for each in ends(config)] == [(True, "signal")]
    assert not end(config) and not keep(config, "end", sub_state=sub_state)
    os.unlink(f"{config.database}-wal")
    assert judged(config) == "wal_missing"


@pytest.mark.parametrize("sub_state", ["stop-post", "final-sigterm", "auto-restart", "failed", "dead"])
def test_an_end_is_confirmed_when_systemd_says_that_the_process_has_ended(config, sub_state):
    assert keep(config, "start") and keep(config, "end", sub_state=sub_state)
    assert [each["confirmed"] for each in ends(config)] == [True]


def test_an_end_is_not_confirmed_if_systemd_does_not_answer(config):
    assert keep(config, "start")
    message = {"kind": "end", "invocation": FIRST, "state": {}}
    assert keeper.Keeper(config, properties={}, boot="boot-1").keep(message, {})
    assert [each["confirmed"] for each in ends(config)] == [False]
    # The second process started before the keeper handled the exit of the first one. However, systemd had confirmed the
    # start of the first process.
    assert keeper.Keeper(config, properties={"InvocationID": SECOND}, boot="boot-1").keep(message, {})
    assert [each["confirmed"] for each in ends(config)] == [True]


def test_reports_that_arrive_in_another_order_are_kept(config):
    now = time.time_ns()
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    message = {"invocation": FIRST, "state": {}}
    late = keeper.Keeper(config, properties={"InvocationID": "f" * 32}, boot="boot-1")
    assert late.keep({**message, "kind": "end", "ns": now - 5_000_000, "since_boot": boot - 5_000_000}, {})
    assert keep(config, "start", invocation=SECOND, ns=now, since_boot=boot)
    assert late.keep({**message, "kind": "start", "ns": now - 9_000_000, "since_boot": boot - 9_000_000}, {})
    known = common.known_state(config.known, database=config.database)
    assert (known["start"]["invocation"], known["end"]["invocation"]) == (SECOND, FIRST)
    assert [each["start"]["invocation"] for each in ends(config)] == [FIRST]
    assert unconfirmed(config, "start", "c" * 32, ns=now + 3600 * 10**9)
    assert common.known_state(config.known, database=config.database)["start"]["ns"] <= time.time_ns()


def test_the_number_of_files_is_limited(config, monkeypatch):
    monkeypatch.setattr(keeper, "MOST_ENDS", 5)
    monkeypatch.setattr(keeper, "MOST_REFUSALS", 2)
    samples.crashed(config.database)
    monkeypatch.setattr(keeper, "_EVIDENCE_INTERVAL", 0)
    for number in range(9):
        assert end(config, invocation=f"{number:032x}")
        os.utime(config.database, (number, number))
        assert keep(config, "refused", code="wal_missing", reason="gone", parts={"wal": b"x"})
    folder = Path(config.state_dir) / "ends" / "itsm"
    assert len(list(folder.glob("end-*"))) == 5
    assert len(list(folder.glob("refused-*"))) == 2
    refusal = json.loads((Path(config.state_dir) / "refusal-itsm.json").read_text())
    assert (refusal["times"], refusal["code"], refusal["of_data"]) == (9, "wal_missing", True)


def refusal_of(config):
    path = Path(config.state_dir) / "refusal-itsm.json"
    return json.loads(path.read_text()) if path.exists() else None


@pytest.mark.parametrize("sub_state", ["running", "start", "stop-post", "dead", "failed", ""])
def test_a_refusal_counts_only_during_the_check_of_the_start(config, sub_state):
    assert not keep(config, "refused", code="truncated", reason="x", sub_state=sub_state, parts={"wal": b"x"})
    assert not unconfirmed(config, "refused", FIRST, code="truncated", reason="x")
    assert refusal_of(config) is None
    assert list((Path(config.state_dir) / "ends" / "itsm").iterdir()) == []


def test_a_refusal_counts_if_the_unit_has_left_the_check_before_the_keeper_asked(config):
    properties = {"InvocationID": FIRST, "SubState": "dead", "Result": "exec-condition"}
    message = {"kind": "refused", "invocation": FIRST, "state": {}, "code": "truncated", "reason": "x"}
    assert keeper.Keeper(config, properties=properties, boot="b").keep(message, {})
    assert refusal_of(config)["code"] == "truncated"


def test_a_later_refusal_does_not_clear_the_doubt_about_the_data(config):
    def refuse(code):
        assert keep(config, "refused", code=code, reason=f"reason of {code}")
        return [refusal_of(config)[name] for name in ("code", "reason", "of_data", "times")]

    assert refuse("not_mounted") == ["not_mounted", "reason of not_mounted", False, 1]
    assert refuse("wal_missing") == ["wal_missing", "reason of wal_missing", True, 2]
    assert refuse("no_access") == ["wal_missing", "reason of wal_missing", True, 3]
    assert refuse("truncated") == ["wal_missing", "reason of wal_missing", True, 4]


def test_evidence_is_saved_at_most_once_a_minute(config, monkeypatch):
    samples.closed(config.database)
    now = 1_772_413_323_456_789_000
    folder = Path(config.state_dir) / "ends" / "itsm"
    # The last step sets the clock back.
    for seconds, folders in ((0, 1), (1, 1), (59, 1), (61, 2), (62, 2), (-3600, 3)):
        monkeypatch.setattr(keeper.time, "time_ns", lambda seconds=seconds: now + seconds * 10**9)
        os.utime(config.database, (seconds + 7200, seconds + 7200))
        assert keep(config, "refused", code="truncated", reason="x", parts={"wal": b"x"})
        assert len(list(folder.glob("refused-*"))) == folders
        assert os.path.isdir(refusal_of(config)["evidence"])
    assert len(list(folder.glob("refused-20260302T010203456Z-*"))) == 1


def test_a_refused_start_needs_few_calls_of_systemctl(monkeypatch):
    asked = []
    monkeypatch.setattr(keeper, "properties_of", lambda unit: asked.append(unit) or {"ActiveState": "activating"})
    begun = time.monotonic()
    keeper.return_start("itsm.service")
    assert len(asked) <= 8 and 2 < time.monotonic() - begun < 5


def test_the_number_of_connections_to_the_keeper_is_limited():
    text = (FILES.parent / "templates" / "keeper.socket.j2").read_text()
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert 0 < int(settings["TriggerLimitBurst"]) <= 400 and settings["TriggerLimitIntervalSec"] == "10s"
    # With PollLimitBurst=, systemd 255 or later delays connections before TriggerLimitBurst= would stop the socket.
    assert int(settings["PollLimitBurst"]) * 5 < int(settings["TriggerLimitBurst"])
    assert settings["PollLimitIntervalSec"] == "2s"


# Run the keeper with a slow disk and with the given deadlines.
SLOW = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import guard_keeper as keeper
keeper.properties_of = lambda unit: {"InvocationID": "a" * 32, "SubState": "stop-post"}
keeper._RECEIVING, keeper._SAVING, pause = map(float, sys.argv[3:])
synced = os.fsync
os.fsync = lambda descriptor: (time.sleep(pause), synced(descriptor))
sys.exit(keeper.main([sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("times", "answer"),
    [
        ((2.0, 0.3, 30.0), b""),
        # The sender and the disk are slow. The total time is longer than each of the two deadlines.
        ((2.0, 2.0, 0.6), b"saved\n"),
        ((0.3, 2.0, 0.0), b""),
    ],
)
def test_a_keeper_that_is_late_leaves_no_temporary_files(config, tmp_path, times, answer):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config._asdict()))
    ours, theirs = socket.socketpair()
    arguments = [sys.executable, "-I", "-c", SLOW, str(FILES), str(path), *map(str, times)]
    process = subprocess.Popen(arguments, stdin=theirs, stdout=subprocess.PIPE, text=True)
    theirs.close()
    time.sleep(1.0)
    with contextlib.suppress(BrokenPipeError):
        ours.sendall(json.dumps({"kind": "end", "invocation": FIRST, "state": {}}).encode() + b"\n")
    assert ours.recv(100) == answer
    told, _none = process.communicate(timeout=20)
    ours.close()
    assert (process.returncode, "was not saved" in told) == ((0, False) if answer else (1, True))
    assert [str(found) for found in tmp_path.rglob(".*")] == []
    assert len(list(tmp_path.rglob("end-*"))) == bool(answer)


def test_temporary_files_of_a_killed_keeper_are_removed(config, tmp_path):
    samples.closed(config.database)
    assert end(config)
    folder = Path(config.state_dir) / "ends" / "itsm"
    old = (folder / ".end-x.json.1a", Path(config.state_dir) / ".refusal-itsm.json.2b", tmp_path / ".known.json.3c")
    others = (Path(config.state_dir) / ".refusal-other.json.2b", tmp_path / ".itsm.json.3c", tmp_path / ".known.json")
    for each in (*old, *others):
        each.touch()
    assert keep(config, "start", invocation=SECOND)
    assert not any(each.exists() for each in old) and all(each.exists() for each in others)


def test_a_power_failure_is_recorded_at_the_next_start(config):
    assert keep(config, "start", invocation=FIRST, boot="boot-1")
    assert keep(config, "start", invocation=SECOND, boot="boot-2")
    (path,) = (Path(config.state_dir) / "ends" / "itsm").glob("end-*")
    told = json.loads(path.read_text())
    assert (told["result"], told["invocation"], told["at"]) == ("host-down", FIRST, None)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"kind": "other"}\n',
        b'{"kind": "end", "invocation": "../../etc/passwd"}\n',
        b"[" * 100_000 + b"\n",
        b"x" * 200_000,
    ],
)
def test_the_keeper_rejects_other_messages(line):
    with pytest.raises((ValueError, RecursionError)):
        keeper.receive(io.BytesIO(line))


def test_the_keeper_keeps_only_known_fields_with_limited_values(config):
    hostile = {
        "result": "x" * 10_000,
        "signal": "../../x",
        "log": {"path": "p" * 10_000, "lines": ["y" * 10_000, 7, "\x1b[31mred"] * 100},
        "stopped_by": {"pid": -1, "uid": "root", "command": "c" * 10_000, "more": "z"},
        "memory": {"peak": 1e308, "oom_kills": True},
        "lacking": [],
        "more": "z" * 1000,
    }
    state = {"database": [1], "frames": {"salts": ["x", {}]}}
    message = {"kind": "end", "invocation": FIRST, "state": state, **hostile}
    assert keeper.Keeper(config, properties={"InvocationID": FIRST}, boot="b").keep(message, {})
    (path,) = (Path(config.state_dir) / "ends" / "itsm").glob("end-*")
    told = json.loads(path.read_text())
    assert path.stat().st_size < 40_000
    assert "more" not in told and told["signal"] is None and told["memory"] == {"peak": None, "oom_kills": None}
    assert "\x1b" not in path.read_text()


def test_the_known_state_of_another_database_does_not_count(config):
    samples.closed(config.database)
    assert end(config)
    os.unlink(config.database)
    assert judged(config) == "missing"
    assert judged(config._replace(database=f"{config.database}.new")) is None


def run(program, config, *more, **environment):
    path = Path(config.state_dir) / "config.json"
    path.write_text(json.dumps(config._asdict()))
    arguments = [sys.executable, "-I", "-S", "-E", "-B", str(FILES / "run.py"), program, str(path), *more]
    return subprocess.run(arguments, check=False, capture_output=True, text=True, env=environment)


def test_only_a_refusal_has_the_exit_code_for_a_refusal(config):
    samples.crashed(config.database)
    assert run("start_guard", config).returncode == 0
    os.unlink(config.database)
    refused = run("start_guard", config)
    assert refused.returncode == 77
    assert "NOT STARTED" in refused.stdout and "outage_recover.yml" in refused.stdout
    shown = run("start_guard", config, "--show")
    assert (shown.returncode, json.loads(shown.stdout)["code"]) == (77, "missing")
    Path(config.known).write_text("{" * 100_000)
    assert run("start_guard", config).returncode == 77
    missing = subprocess.run([sys.executable, str(FILES / "run.py"), "start_guard", "/nonexistent"], check=False)
    assert missing.returncode not in (0, 77)


def start_while_an_end_is_due(config, save):
    """Run the guard before the keeper has recorded the exit of the last process. Return the exit code and the duration.

    `save` is called after 0.2 seconds.
    """
    path = Path(config.state_dir) / "config.json"
    path.write_text(json.dumps(config._asdict()))
    begun = time.monotonic()
    command = [sys.executable, "-I", "-S", "-E", "-B", str(FILES / "run.py"), "start_guard", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(0.2)
        save()
        return process.wait(10), time.monotonic() - begun


def foreign_to_the_saved_end(config):
    """Start a process with a WAL that differs from the WAL recorded when the previous process exited."""
    samples.crashed(config.database)
    assert end(config)
    known = json.loads(Path(config.known).read_text())
    known["end"]["frames"]["salts"] = [1, 2]
    Path(config.known).write_text(json.dumps(known))
    assert keep(config, "start", invocation=SECOND, boot=common.boot_id())
    assert judged(config) == "wal_foreign"


def test_a_start_just_after_an_end_waits_until_the_end_is_saved(config):
    foreign_to_the_saved_end(config)
    code, seconds = start_while_an_end_is_due(config, lambda: end(config, invocation=SECOND, boot=common.boot_id()))
    assert code == 0 and 0.2 <= seconds < 0.2 + guard._PATIENCE


def test_a_doubt_stays_if_no_end_is_saved(config):
    foreign_to_the_saved_end(config)
    code, seconds = start_while_an_end_is_due(config, lambda: None)
    assert code == guard.REFUSED and seconds >= guard._PATIENCE


def test_a_doubt_does_not_wait_for_an_end_of_an_earlier_boot(config):
    foreign_to_the_saved_end(config)
    known = json.loads(Path(config.known).read_text())
    known["start"]["boot"] = "earlier"
    assert guard.end_is_due({**known, "start": {**known["start"], "boot": common.boot_id()}})
    assert not guard.end_is_due(known)


def test_a_wal_that_is_deleted_just_after_the_end_is_detected(config):
    """For example, a person runs: systemctl stop itsm; rm itsm.db-wal; systemctl start itsm."""
    samples.closed(config.database)
    assert end(config)
    samples.crashed(config.database)
    assert keep(config, "start", invocation=SECOND, boot=common.boot_id())
    last = common.examine(config.database, compare=True)
    os.unlink(f"{config.database}-wal")
    assert judged(config) is None
    code, _seconds = start_while_an_end_is_due(
        config, lambda: end(config, invocation=SECOND, boot=common.boot_id(), state=common.summary(last))
    )
    assert code == guard.REFUSED
    assert judged(config) == "wal_missing"


def test_the_recorder_always_ends_with_success(config):
    assert run("restart_recorder", config, SERVICE_RESULT="signal").returncode == 0
    broken = subprocess.run([sys.executable, str(FILES / "run.py"), "restart_recorder", "/nonexistent"], check=False)
    assert broken.returncode == 0


def test_a_doubt_counts_only_if_the_files_did_not_change_during_the_check(config, monkeypatch):
    samples.crashed(config.database)
    real, read = common.examine(config.database), []

    def examine(database, *, scan):
        if not scan:
            return real
        read.append(database)
        # During the first check, another program checkpoints the WAL.
        torn = {**real, "header": {**real["header"], "changes": 10**6}}
        return {**torn, "wal": {**real["wal"], "size": 1}} if len(read) == 1 else real

    monkeypatch.setattr(guard.common, "examine", examine)
    assert guard.decide(config.database, {})[1] is None
    assert len(read) == 2


def test_the_guard_changes_no_file(config):
    samples.crashed(config.database, shm=True)
    folder = Path(config.database).parent
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    run("start_guard", config)
    run("restart_recorder", config, SERVICE_RESULT="signal")
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    assert after == before


def test_the_checksum_is_the_one_of_sqlite(config):
    samples.crashed(config.database)
    header = Path(f"{config.database}-wal").read_bytes()[:32]
    assert common.checksum(header) == struct.unpack(">II", header[24:])


def test_the_last_measured_number_of_open_files_is_saved(config):
    samples_known = [{"at": 1772413323.5, "open_files": 21}, {"at": 1772413383.5, "open_files": None}]
    (Path(config.state_dir) / "readiness.json").write_text(json.dumps({"samples": samples_known}))
    assert end(config)
    assert ends(config)[0]["open_files"] == {"number": 21, "at": "2026-03-02T01:02:03.500Z"}


def release(config, *, accepted):
    """Allow the service to start again with its current files, as a run would do."""
    known = {"path": config.database, "released": {"stamps": guard.stamps(common.examine(config.database))}}
    known["released"]["accepted"] = list(accepted)
    Path(config.known).write_text(json.dumps(known))


def test_an_accepted_code_does_not_accept_later_damage_with_this_code(config):
    samples.crashed(config.database)
    cut(config.database, os.path.getsize(config.database) // 2)
    assert judged(config) == "truncated"
    release(config, accepted=["truncated", "empty_beside_wal"])
    assert judged(config) is None
    cut(config.database, 3 * 4096)
    assert judged(config) == "truncated"
    cut(config.database, 0)
    assert judged(config) == "empty_beside_wal"


def test_the_keeper_forgets_a_release_if_the_service_changed_the_files(config):
    samples.crashed(config.database)
    release(config, accepted=["truncated"])
    assert keep(config, "start") and end(config)
    assert common.known_state(config.known, database=config.database)["released"]
    by_sqlite(config.database, "INSERT INTO users VALUES (77, 'x')")
    assert keep(config, "start", invocation=SECOND) and end(config, invocation=SECOND)
    assert "released" not in common.known_state(config.known, database=config.database)


def test_a_release_without_stamps_releases_nothing(config):
    samples.closed(config.database)
    assert keep(config, "start")
    known = json.loads(Path(config.known).read_text())
    Path(config.known).write_text(json.dumps({**known, "released": {"stamps": {}, "accepted": ["missing"]}}))
    os.unlink(config.database)
    assert judged(config) == "missing"


BACKED_UP = """
import os, sqlite3, sys
path, backup, grow = sys.argv[1], sys.argv[2], sys.argv[3] == "grow"
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=OFF")
connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
for number in range(3000):
    connection.execute("INSERT INTO t (v) VALUES (randomblob(200))")
connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
copy = sqlite3.connect(backup)
connection.backup(copy)
copy.close()
for number in range(3000):
    connection.execute("UPDATE t SET v = randomblob(200) WHERE id = ?", (number * 7 % 3000,))
    if grow:
        connection.execute("INSERT INTO t (v) VALUES (randomblob(200))")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["grow", "same size"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_backup_that_replaces_only_the_database_is_refused(config, tmp_path, how, kept):
    backup = str(tmp_path / "backup.db")
    arguments = [sys.executable, "-c", BACKED_UP, config.database, backup, how]
    subprocess.run(arguments, check=False, capture_output=True)
    assert keep(config, "start") and end(config)
    assert judged(config) is None
    if kept:
        shutil.copyfile(backup, config.database)  # The same inode.
    else:
        shutil.copy(backup, f"{config.database}.new")
        os.replace(f"{config.database}.new", config.database)
    assert judged(config) == "wal_foreign"


LARGE = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint=0")
connection.execute("PRAGMA synchronous=OFF")
connection.execute("BEGIN")
for number in range(80):
    connection.execute("INSERT INTO incidents (title, body) VALUES ('x', zeroblob(30000))")
connection.execute("COMMIT")
if sys.argv[2] != "none":
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
if sys.argv[2] == "part":
    connection.execute("INSERT INTO incidents (title, body) VALUES ('x', zeroblob(300))")
os.kill(os.getpid(), 9)
"""


CHECKPOINT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
if sys.argv[2] == "write":
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("INSERT INTO users VALUES (77, 'x')")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("then", ["end", "write"])
def test_a_checkpoint_of_another_program_that_was_killed_is_not_refused(config, then):
    samples.crashed(config.database)
    assert keep(config, "start") and end(config)
    before = os.stat(config.database).st_mtime_ns
    subprocess.run([sys.executable, "-c", CHECKPOINT, config.database, then], check=False)
    assert os.stat(config.database).st_mtime_ns != before and os.path.getsize(f"{config.database}-wal")
    assert judged(config) is None


# A file system may give the new WAL the inode number of the old WAL. The new database never has the inode number of the
# old database.
@pytest.mark.parametrize("how", ["moved", "new files", "in place", "database is new", "wal is new"])
@pytest.mark.parametrize("damage", [None, 0, 60, 4096 * 3])
def test_files_that_were_put_back_together_are_not_refused(config, tmp_path, how, damage):
    samples.crashed(config.database)
    assert keep(config, "start")
    copy = str(tmp_path / "copy")
    for suffix in ("", "-wal"):
        shutil.copy2(config.database + suffix, copy + suffix)
    if damage is not None:
        cut(config.database, damage)
    assert end(config)
    for suffix in ("", "-wal"):
        if how == "moved":
            os.replace(copy + suffix, config.database + suffix)
        elif how == {"": "database is new", "-wal": "wal is new"}[suffix]:
            shutil.copyfile(copy + suffix, f"{config.database}.new")
            os.replace(f"{config.database}.new", config.database + suffix)
        else:
            if how == "new files":
                os.unlink(config.database + suffix)
            shutil.copyfile(copy + suffix, config.database + suffix)
    assert judged(config) is None


@pytest.mark.parametrize("left", [2, 5])
def test_a_backup_beside_a_part_of_the_old_wal_is_refused(config, tmp_path, left):
    backup = str(tmp_path / "backup.db")
    arguments = [sys.executable, "-c", BACKED_UP, config.database, backup, "same size"]
    subprocess.run(arguments, check=False, capture_output=True)
    assert keep(config, "start") and end(config)
    os.replace(backup, config.database)
    cut(f"{config.database}-wal", os.path.getsize(f"{config.database}-wal") - left * (4096 + 24))
    assert judged(config) == "wal_foreign"


def test_a_backup_that_replaces_the_database_after_a_power_failure_is_refused(config, tmp_path):
    in_the_wal(config.database)
    assert keep(config, "start") and end(config)
    backup = str(tmp_path / "backup.db")
    samples.closed(backup, rows=20)
    # The service writes more, and its exit is not recorded.
    subprocess.run([sys.executable, "-c", LARGE, config.database, "none"], check=False)
    assert judged(config) is None
    counter = common.examine(config.database)["frames"].last_changes
    samples.patch(backup, 24, struct.pack(">I", counter))
    samples.patch(backup, 92, struct.pack(">I", counter))
    shutil.copyfile(backup, config.database)
    assert judged(config) == "wal_foreign"


def test_a_refusal_stays_a_refusal_if_nothing_can_be_written(config):
    samples.crashed(config.database)
    os.unlink(config.database)
    path = Path(config.state_dir) / "config.json"
    path.write_text(json.dumps(config._asdict()))
    program = [sys.executable, "-I", "-S", "-E", "-B", str(FILES / "run.py"), "start_guard", str(path)]
    for more in ([], ["--show"]):
        for redirect, journal in itertools.product(
            (">/dev/full", ">&-", "| true; exit ${PIPESTATUS[0]}"), ({}, {"JOURNAL_STREAM": "8:1"})
        ):
            command = f"{' '.join(program + more)} {redirect}"
            done = subprocess.run(["/bin/bash", "-c", command], check=False, env=journal, capture_output=True)
            assert done.returncode == 77, (command, journal, done.stderr)


def test_a_refusal_stays_a_refusal_if_no_socket_can_be_created(config, monkeypatch):
    def no_socket(*_arguments):
        raise OSError("no more descriptors")

    monkeypatch.setattr("_socket.socket", no_socket)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    common.say("a path \udcff")
    assert common.tell(config, {"kind": "start"}, wait=0) is False


@pytest.mark.parametrize("broken", ["say", "tell", "evidence"])
def test_an_error_after_the_decision_does_not_start_the_unit(config, broken):
    samples.crashed(config.database)
    os.unlink(config.database)
    path = Path(config.state_dir) / "config.json"
    path.write_text(json.dumps(config._asdict()))

    def fail(*_arguments, **_more):
        raise MemoryError

    child = os.fork()
    if child == 0:
        setattr(guard if broken == "evidence" else common, broken, fail)
        try:
            os._exit(guard.main([str(path)]))
        finally:
            os._exit(1)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 77


def with_a_slow_wal(config, *, held=False):
    """Run the guard in a child process that cannot read the WAL in time.

    Return the exit code. If a signal killed the process, return the negative number of the signal.
    """
    path = Path(config.state_dir) / "config.json"
    path.write_text(json.dumps(config._asdict()))
    child = os.fork()
    if child == 0:
        guard._DEADLINE = 0.2
        common._Frames._scan = lambda *_arguments, **_more: time.sleep(30)
        if held:
            guard.hold_of = lambda _unit: guard.Doubt("held", "the unit is held")
        try:
            os._exit(guard.main([str(path)]))
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


@pytest.mark.parametrize("case", ["database missing", "database empty", "other content", "database and WAL empty"])
def test_a_lost_database_is_refused_before_the_wal_is_read(config, case):
    samples.crashed(config.database)
    assert keep(config, "start")
    DOUBTFUL[case][0](config.database)
    assert with_a_slow_wal(config) == 77


def test_a_wal_that_cannot_be_read_in_time_refuses_only_if_there_is_a_doubt(config):
    samples.crashed(config.database)
    assert with_a_slow_wal(config) == -signal.SIGALRM
    assert with_a_slow_wal(config, held=True) == 77


def test_a_clock_that_was_ahead_does_not_hide_later_ends(config, monkeypatch):
    samples.crashed(config.database)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 86400 * 10**9)
    assert keep(config, "start", ns=time.time_ns()) and end(config, ns=time.time_ns())
    monkeypatch.setattr(time, "time_ns", real)
    assert keep(config, "start", invocation=SECOND, ns=real())
    process = writer(config.database, checkpoint=0)
    acknowledged(process, at_least=30)
    process.kill()
    process.wait()
    assert end(config, invocation=SECOND, ns=real())
    known = common.known_state(config.known, database=config.database)
    assert (known["start"]["invocation"], known["end"]["invocation"]) == (SECOND, SECOND)
    os.unlink(f"{config.database}-wal")
    assert judged(config) == "wal_missing"


def test_an_end_of_another_boot_never_counts_as_later(config):
    assert end(config, since_boot=time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    known = json.loads(Path(config.known).read_text())
    known["end"]["since_boot"] *= 1000
    Path(config.known).write_text(json.dumps(known))
    assert end(config, invocation=SECOND, boot="boot-2")
    assert common.known_state(config.known, database=config.database)["end"]["invocation"] == SECOND


def test_the_start_of_an_invocation_does_not_depend_on_a_clock_that_was_ahead():
    now, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    minute = 60 * 10**9
    ahead = {"ns": now + 86400 * 10**9, "since_boot": boot - minute}
    assert abs(recorder.start_of(ahead) - (now - minute)) < 10**9
    right = {"ns": now - minute, "since_boot": boot - minute}
    assert abs(recorder.start_of(right) - right["ns"]) < 10**9
    assert recorder.start_of({"ns": 7}) == 7


def test_the_number_of_the_device_may_change_at_a_reboot(config):
    samples.crashed(config.database)
    assert keep(config, "start") and end(config)
    known = json.loads(Path(config.known).read_text())
    known["end"]["database"][0] += 1
    Path(config.known).write_text(json.dumps(known))
    os.unlink(f"{config.database}-wal")
    assert judged(config) == "wal_missing"
    release(config, accepted=[])
    known = json.loads(Path(config.known).read_text())
    known["released"]["stamps"]["database"][0] += 1
    Path(config.known).write_text(json.dumps(known))
    assert judged(config) is None


JOURNAL = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"PRAGMA journal_mode={sys.argv[2]}")
connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
connection.execute("CREATE INDEX i ON t (v)")
connection.execute("BEGIN")
for number in range(3000):
    connection.execute("INSERT INTO t (v) VALUES (randomblob(50))")
connection.execute("COMMIT")
if sys.argv[3] == "killed":
    connection.execute("PRAGMA cache_size=5")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM t WHERE id % 3 = 0")
    connection.execute("UPDATE t SET v = randomblob(60)")
    os.kill(os.getpid(), 9)
connection.close()
"""


def in_journal_mode(config, mode, ending):
    subprocess.run([sys.executable, "-c", JOURNAL, config.database, mode, ending], check=False)


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST"])
def test_a_rollback_journal_that_is_needed_must_not_disappear(config, mode):
    in_journal_mode(config, mode, "killed")
    assert keep(config, "start") and end(config)
    assert judged(config) is None
    journal = f"{config.database}-journal"
    content = Path(journal).read_bytes()
    for damage in (os.unlink, lambda path: cut(path, 0), lambda path: cut(path, len(content) // 2)):
        damage(journal)
        assert judged(config) == "journal_missing"
        Path(journal).write_bytes(content)
    # Another program rolls back the transaction.
    by_sqlite(config.database, "SELECT count(*) FROM t")
    assert judged(config) is None
    assert common.KINDS["journal_missing"].of_data


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST"])
def test_a_journal_without_a_transaction_does_not_hide_missing_pages(config, mode):
    in_journal_mode(config, mode, "closed")
    assert judged(config) is None
    assert os.path.exists(f"{config.database}-journal") is (mode != "DELETE")
    cut(config.database, 5 * 4096)
    assert judged(config) == "truncated"


@pytest.mark.parametrize(("size", "code"), [(None, "missing"), (0, "empty")])
def test_a_lost_database_with_a_journal_is_refused(config, size, code):
    in_journal_mode(config, "DELETE", "killed")
    os.unlink(config.database) if size is None else cut(config.database, size)
    assert judged(config) == code


FIRST_WRITE = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=5")
connection.execute("BEGIN")
for number in range(200):
    connection.execute("INSERT INTO incidents (title, body) VALUES ('x', zeroblob(3000))")
os.kill(os.getpid(), 9)
"""


def test_a_new_header_before_frames_without_a_commit_is_not_refused(config):
    """SQLite is killed during its first write to a WAL that was never restarted and contains no commit."""
    samples.closed(config.database)
    subprocess.run([sys.executable, "-c", FIRST_WRITE, config.database], check=False)
    wal = Path(f"{config.database}-wal")
    header = bytearray(wal.read_bytes()[:32])
    assert struct.unpack_from(">I", header, 12) == (0,) and judged(config) is None
    header[16:24] = os.urandom(8)
    header[24:32] = struct.pack(">II", *common.checksum(bytes(header)))
    samples.patch(str(wal), 0, bytes(header))
    assert judged(config) is None
    # A commit mark after this header is part of a transaction that SQLite would ignore.
    samples.patch(str(wal), 32 + 4120 * 2 + 4, struct.pack(">I", 50))
    assert judged(config) == "wal_foreign"


@pytest.mark.parametrize("field", [40, 44])
@pytest.mark.parametrize("rows", [1, 60])
def test_damaged_salts_of_the_first_frame_never_hide_transactions(config, rows, field):
    samples.crashed(config.database, in_wal=rows)
    samples.flip(f"{config.database}-wal", field)
    assert judged(config) == "wal_foreign"


@pytest.mark.parametrize(("checkpoint", "needed"), [("all", False), ("part", True), ("none", True)])
def test_the_index_shows_that_a_large_wal_is_not_needed(config, monkeypatch, checkpoint, needed):
    monkeypatch.setattr(common, "_MOST_COMPARED", 1 << 20)
    samples.closed(config.database)
    subprocess.run([sys.executable, "-c", LARGE, config.database, checkpoint], check=False)
    assert common.examine(config.database, compare=True)["frames"].needed is needed
    assert keep(config, "start") and end(config)
    os.unlink(f"{config.database}-wal")
    assert judged(config) == ("wal_missing" if needed else None)


def test_a_part_of_a_wal_that_was_copied_completely_is_refused(config):
    """SQLite would read old pages from the rest of the WAL instead of newer pages from the database."""
    samples.crashed(config.database)
    subprocess.run([sys.executable, "-c", CHECKPOINT, config.database, "end"], check=False)
    assert common.examine(config.database, compare=True)["frames"].needed is False
    assert keep(config, "start") and end(config)
    assert judged(config) is None
    cut(f"{config.database}-wal", 32 + 4120 * 20)
    assert judged(config) == "wal_short"
    cut(f"{config.database}-wal", 32)
    assert judged(config) is None


def test_a_large_wal_whose_use_is_unknown_must_not_disappear(config, monkeypatch):
    monkeypatch.setattr(common, "_MOST_COMPARED", 1 << 20)
    samples.closed(config.database)
    subprocess.run([sys.executable, "-c", LARGE, config.database, "all"], check=False)
    os.unlink(f"{config.database}-shm")
    assert common.examine(config.database, compare=True)["frames"].needed is None
    assert keep(config, "start") and end(config)
    os.unlink(f"{config.database}-wal")
    assert judged(config) == "wal_missing"
