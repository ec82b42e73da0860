# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrations: a check changes nothing, every applied migration is reported, and unsafe migrations are refused.

A script replaces knex. The script reads and writes real SQLite files, and prints the same messages as knex 3.3.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex, knex_tables, migration_names

KNEX = """#!PYTHON
import json, os, sqlite3, sys, time
command, option, database = sys.argv[1:]
assert option == "--connection"
if "FAKE_LOG" in os.environ:
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "uid": os.getuid()}) + "\\n")
connection = sqlite3.connect(database, isolation_level=None)
table = os.environ.get("FAKE_TABLE", "knex_migrations")
connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (id integer primary key autoincrement, name varchar(255),"
                   " batch integer, migration_time datetime)")
connection.execute(f'CREATE TABLE IF NOT EXISTS {table}_lock ("index" integer primary key, is_locked integer)')
done = [row[0] for row in connection.execute(f"SELECT name FROM {table} ORDER BY id")]
files = sorted(os.listdir("migrations"))
print("Using environment: " + os.environ["NODE_ENV"])
missing = [name for name in done if name not in files]
if missing:
    print("Error: The migration directory is corrupt, the following files are missing: " + ", ".join(missing),
          "    at validateMigrationList (/app/node_modules/knex/lib/migrations/migrate/Migrator.js:733:11)",
          sep="\\n", file=sys.stderr)
    sys.exit(1)
pending = [name for name in files if name not in done]
if command == "migrate:list":
    for kind, names in (("Completed", done), ("Pending", pending)):
        if names:
            print(f"Found {len(names)} {kind} Migration file/files.", *names, sep="\\n")
        else:
            print(f"No {kind} Migration files Found.")
    print()
    sys.exit(0)
if command == "migrate:unlock":
    if "FAKE_UNLOCK" not in os.environ:
        connection.execute(f"UPDATE {table}_lock SET is_locked = 0")
    print("Succesfully unlocked the migrations lock table")
    sys.exit(int(os.environ.get("FAKE_UNLOCK", 0)))
if "FAKE_SLEEP" in os.environ:
    time.sleep(float(os.environ["FAKE_SLEEP"]))
if "FAKE_RACE" in os.environ:
    print("Can't take lock to run migrations: Migration table is already locked",
          "If you are sure migrations are not running you can release the lock manually by running"
          " 'knex migrate:unlock'", sep="\\n")
    print("MigrationLocked: Migration table is already locked", file=sys.stderr)
    sys.exit(1)
(batch,) = connection.execute(f"SELECT coalesce(max(batch), 0) + 1 FROM {table}").fetchone()
for name in pending:
    if "bad" in name:
        print(f'migration file "{name}" failed',
              'migration failed with error: create tabel foo - near "tabel": syntax error', sep="\\n")
        print('SqliteError: create tabel foo - near "tabel": syntax error ' + os.environ.get("MAIL_LOGIN", ""),
              "    at Database.prepare (/app/x.js:5:21)", sep="\\n", file=sys.stderr)
        sys.exit(1)
    connection.execute(f"INSERT INTO {table} (name, batch, migration_time) VALUES (?, ?, 1)", (name, batch))
print(f"Batch {batch} run: {len(pending)} migrations")
"""


class Site:
    """An application with its database and its migrations."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.app = base / "app"
        self.log = base / "log"
        self.environment = base / "service.env"
        (self.app / "migrations").mkdir(parents=True)
        (self.app / "node_modules/.bin").mkdir(parents=True)
        (self.app / "backend").mkdir()
        self.knex = self.app / "node_modules/.bin/knex"
        self.knex.write_text(KNEX.replace("PYTHON", sys.executable))
        self.knex.chmod(0o755)
        self.db = self.app / "backend/itsm.db"
        self.set_environment()
        self.add("1_users.js", "2_incidents.js", "3_changes.js")

    def set_environment(self, **values: str) -> None:
        lines = [f"FAKE_LOG={self.log}", *[f"{name}='{value}'" for name, value in values.items()]]
        self.environment.write_text("\n".join(lines) + "\n")

    def add(self, *names: str) -> None:
        for name in names:
            (self.app / "migrations" / name).touch()

    def make(
        self, *, completed: tuple[str, ...] = ("1_users.js",), table: str = "knex_migrations", lock: int = 0
    ) -> None:
        """Create the database as a crash leaves it, with all rows only in the WAL."""
        child = os.fork()
        if child == 0:
            connection = sqlite3.connect(self.db, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE users (id integer primary key, name text)")
            connection.execute("INSERT INTO users (name) VALUES ('admin')")
            connection.execute(
                f"CREATE TABLE {table} (id integer primary key autoincrement, name varchar(255), batch integer,"
                " migration_time datetime)"
            )
            connection.execute(f'CREATE TABLE {table}_lock ("index" integer primary key, is_locked integer)')
            for name in completed:
                connection.execute(f"INSERT INTO {table} (name, batch, migration_time) VALUES (?, 7, 1)", (name,))  # noqa: S608
            connection.execute(f"INSERT INTO {table}_lock (is_locked) VALUES (?)", (lock,))  # noqa: S608
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (self.app / "backend/itsm.db-wal").stat().st_size > 0

    def migrator(self, **options) -> knex.Migrator:
        options = {
            "db_path": "backend/itsm.db",
            "node": sys.executable,
            "environment_file": self.environment,
            **options,
        }
        return knex.Migrator(app_dir=str(self.app), **options)

    def migrate(self, *, latest: bool = False, check_mode: bool = False, **options) -> dict:
        migrator = self.migrator(**options)
        return knex.migrate(migrator, state="latest", check_mode=check_mode) if latest else knex.look(migrator)

    def unlock(self, **more) -> dict:
        return knex.migrate(self.migrator(), state="unlocked", **more)

    def calls(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def commands(self) -> list[str]:
        return [call["argv"][0] for call in self.calls()]

    def traces(self) -> dict[str, tuple]:
        return {
            path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in (self.app / "backend").iterdir()
        }


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return Site(tmp_path)


THREE = """Using environment: production
Found 1 Completed Migration file/files.
20260101000000_m1.js
Found 2 Pending Migration file/files.
20260102000000_m2.js
20260103000000_m3.js

"""


@pytest.mark.parametrize(
    ("output", "completed", "pending"),
    [
        (THREE, ["20260101000000_m1.js"], ["20260102000000_m2.js", "20260103000000_m3.js"]),
        ("No Completed Migration files Found.\nNo Pending Migration files Found.\n\n", [], []),
        ("No Completed Migration files Found.\nFound 1 Pending Migration file/files.\nm1.js \n", [], ["m1.js"]),
        (
            "[dotenv@17.2.0] injecting env (3) from .env\nUsing environment: \x1b[35mproduction\x1b[39m\n"
            "\x1b[32mFound 1 Completed Migration file/files.\x1b[39m\n\x1b[36mm1.js\x1b[39m\n"
            "\x1b[32mNo Pending Migration files Found.\x1b[39m\ndone at last\n",
            ["m1.js"],
            [],
        ),
    ],
)
def test_the_list_is_parsed(output, completed, pending):
    assert migration_names.parse_list(output) == (completed, pending)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Using environment: production\n",
        "No Completed Migration files Found.\n",
        THREE.replace("Found 2 Pending", "Found 3 Pending"),
        THREE.replace("Found 1 Completed", "Found 2 Completed"),
    ],
)
def test_a_list_in_another_format_is_rejected(output):
    with pytest.raises(knex_tables.KnexError, match="does not have the format"):
        migration_names.parse_list(output)


# Reading


@pytest.mark.parametrize(("latest", "check_mode"), [(False, False), (True, True)])
def test_reading_changes_no_file(site, latest, check_mode):
    site.make()
    before = site.traces()
    result = site.migrate(latest=latest, check_mode=check_mode)
    assert site.traces() == before
    assert os.listdir(site.base / "tmp") == []
    assert result["completed"] == ["1_users.js"]
    assert result["pending"] == ["2_incidents.js", "3_changes.js"]
    assert (result["batch"], result["locked"]) == (7, False)
    if latest:
        # Check mode reports the planned changes.
        assert result["changed"] and result["applied"] == []
        assert result["diff"]["before"] == "1_users.js\n"
        assert result["diff"]["after"] == "1_users.js\n2_incidents.js\n3_changes.js\n"
    else:
        assert set(result) == {"completed", "pending", "batch", "locked"}
    assert site.commands() == ["migrate:list"]


def test_reading_a_live_database_does_not_disturb_it(site):
    site.make()
    with contextlib.closing(sqlite3.connect(site.db, isolation_level=None)) as service:
        service.execute("INSERT INTO knex_migrations (name, batch) VALUES ('2_incidents.js', 8)")
        result = site.migrate()
        service.execute("INSERT INTO users (name) VALUES ('late')")
    assert result["completed"] == ["1_users.js", "2_incidents.js"]
    assert result["batch"] == 8


def test_a_database_without_a_wal_is_read(site):
    site.make()
    with contextlib.closing(sqlite3.connect(site.db)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    assert os.listdir(site.app / "backend") == ["itsm.db"]
    assert site.migrate()["completed"] == ["1_users.js"]
    assert os.listdir(site.app / "backend") == ["itsm.db"]


def test_the_tables_may_have_another_name(site):
    site.set_environment(FAKE_TABLE="schema_history")
    site.make(table="schema_history")
    assert site.migrate()["completed"] == ["1_users.js"]


def test_a_database_without_migrations_has_all_of_them_pending(site):
    with contextlib.closing(sqlite3.connect(site.db)) as connection:
        connection.execute("CREATE TABLE t (id integer)")
    result = site.migrate()
    assert (result["completed"], len(result["pending"]), result["batch"]) == ([], 3, None)


def empty_beside_wal(path: Path) -> None:
    path.touch()
    path.with_name(path.name + "-wal").write_bytes(b"x" * 1000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no database"),
        (Path.touch, "has 0 bytes"),
        (empty_beside_wal, "has 0 bytes, but its WAL has 1000 bytes"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.write_text("SQL dump\n" * 100), "does not begin with a SQLite header"),
    ],
)
@pytest.mark.parametrize("latest", [False, True])
def test_knex_never_opens_or_creates_a_file_that_is_not_a_database(site, make, message, latest):
    make(site.db)
    before = sorted(os.listdir(site.app / "backend"))
    with pytest.raises(knex_tables.KnexError, match=f"db_path: .*{message}.*knex is not run"):
        site.migrate(latest=latest)
    assert sorted(os.listdir(site.app / "backend")) == before
    assert site.calls() == []


# Applying


def test_pending_migrations_are_applied_once(site):
    site.make()
    result = site.migrate(latest=True)
    assert result["changed"] is True
    assert result["applied"] == ["2_incidents.js", "3_changes.js"]
    assert result["completed"] == ["1_users.js", "2_incidents.js", "3_changes.js"]
    assert (result["pending"], result["batch"]) == ([], 8)
    assert result["diff"]["after"] == "1_users.js\n2_incidents.js\n3_changes.js\n"
    assert site.commands() == ["migrate:list", "migrate:latest", "migrate:list"]
    assert site.calls()[1]["argv"] == ["migrate:latest", "--connection", str(site.db)]
    with contextlib.closing(sqlite3.connect(site.db)) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
    again = site.migrate(latest=True)
    assert (again["changed"], again["applied"]) == (False, [])
    assert site.commands()[3:] == ["migrate:list"]


def test_a_taken_lock_is_reported_and_not_released(site):
    site.make(lock=1)
    assert site.migrate()["locked"] is True
    before = site.traces()
    with pytest.raises(knex_tables.KnexError, match="the migration lock was set") as caught:
        site.migrate(latest=True)
    assert caught.value.locked is True
    assert site.traces() == before
    assert "migrate:latest" not in site.commands()
    assert "migrate:unlock" not in site.commands()


def test_a_lock_taken_meanwhile_is_reported(site):
    site.make()
    site.set_environment(FAKE_RACE="1")
    with pytest.raises(knex_tables.KnexError, match="Migration table is already locked") as caught:
        site.migrate(latest=True)
    assert caught.value.locked is True
    assert caught.value.applied == []


def test_a_failed_migration_is_reported_with_the_applied_ones(site):
    site.make()
    site.add("2_b_bad.js")
    site.set_environment(MAIL_LOGIN="rosebud-rosebud")
    with pytest.raises(knex_tables.KnexError, match=r"2_b_bad\.js") as caught:
        site.migrate(latest=True)
    message = str(caught.value)
    assert 'near "tabel": syntax error' in message
    assert "Database.prepare" not in message
    assert "rosebud" not in message
    assert "\n" not in message
    assert caught.value.locked is False
    assert caught.value.applied == []
    assert site.commands() == ["migrate:list", "migrate:latest", "migrate:list"]


def test_migrations_applied_before_a_failure_are_reported(site):
    site.make()
    site.add("4_bad.js")
    with pytest.raises(knex_tables.KnexError) as caught:
        site.migrate(latest=True)
    assert caught.value.applied == ["2_incidents.js", "3_changes.js"]


def test_nothing_is_applied_while_the_database_is_open_elsewhere(site):
    site.make()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        connection = sqlite3.connect(site.db)
        connection.execute("SELECT count(*) FROM users").fetchone()
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        while str(site.db) not in _open_files(child):
            pass
        with pytest.raises(knex_tables.KnexError, match=rf"is in use by pid {child} "):
            site.migrate(latest=True)
    finally:
        os.close(writing)
        os.waitpid(child, 0)
    assert site.commands() == ["migrate:list"]
    assert site.migrate(latest=True)["changed"] is True


def _open_files(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def test_missing_files_of_applied_migrations_are_reported(site):
    site.make(completed=("0_gone.js",))
    with pytest.raises(
        knex_tables.KnexError, match=r"code 1\): Error: The migration directory is corrupt, .*: 0_gone.js$"
    ):
        site.migrate()


@pytest.mark.parametrize(
    ("line", "migrates"),
    [
        ("node node_modules/.bin/knex migrate:latest", True),
        ("node /app/node_modules/.bin/knex migrate:up 1_users.js", True),
        ("sh -c knex migrate:list && knex migrate:latest", True),
        ("node node_modules/.bin/knex migrate:list --connection /tmp/x.db", False),
        ("npx knex migrate:status", False),
        ("node backend/server.js", False),
    ],
)
def test_commands_that_may_migrate(line, migrates):
    assert knex.may_migrate(line.split()) is migrates


def test_migrations_of_the_application_are_read_without_its_database(site):
    site.make(completed=("1_users.js",))
    assert site.migrator().shipped() == ["1_users.js", "2_incidents.js", "3_changes.js"]
    site.db.unlink()
    assert site.migrator().shipped() == ["1_users.js", "2_incidents.js", "3_changes.js"]
    assert not site.db.exists()


@pytest.mark.parametrize("completed", [(), ("1_users.js",), ("2_incidents.js",), ("1_users.js", "3_changes.js")])
def test_pending_migrations_are_those_of_knex(site, completed):
    site.make(completed=completed)
    migrator = site.migrator()
    assert (
        migration_names.pending(knex_tables.read_tables(str(site.db)).names, migrator.shipped())
        == migrator.look().pending
    )


def test_a_migration_that_takes_too_long_is_killed(site):
    site.make()
    site.set_environment(FAKE_SLEEP="30")
    with pytest.raises(knex_tables.KnexError, match=r"migrate:latest in .* did not finish within 1 s"):
        site.migrate(latest=True, timeout=1)


# Releasing the migration lock


def test_a_stale_lock_is_released_once(site):
    site.make(lock=1)
    told = site.unlock(check_mode=True)
    assert (told["changed"], told["locked"], site.commands()) == (True, True, ["migrate:list"])
    assert (told["diff"]["before"], told["diff"]["after"]) == ("1_users.js\nlocked\n", "1_users.js\n")
    result = site.unlock()
    assert (result["changed"], result["locked"], result["applied"]) == (True, False, [])
    assert result["diff"] == told["diff"]
    assert site.commands()[1:] == ["migrate:list", "migrate:unlock", "migrate:list"]
    with contextlib.closing(sqlite3.connect(site.db)) as connection:
        assert connection.execute("SELECT is_locked FROM knex_migrations_lock").fetchall() == [(0,)]
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
    again = site.unlock()
    assert (again["changed"], again["locked"]) == (False, False)
    assert site.migrate(latest=True)["applied"] == ["2_incidents.js", "3_changes.js"]


def test_the_lock_of_a_process_with_the_database_open_is_not_released(site):
    site.make(lock=1)
    with subprocess.Popen(["sleep", "60"], stdin=site.db.open("rb")) as child:
        try:
            with pytest.raises(knex_tables.KnexError, match=rf"is in use by pid {child.pid} ") as caught:
                site.unlock()
        finally:
            child.kill()
    assert caught.value.locked is True
    assert "migrate:unlock" not in site.commands()
    assert site.migrate()["locked"] is True


@pytest.mark.parametrize(
    ("script", "ours"),
    [("node_modules/.bin/knex", True), ("node_modules/knex/bin/knex.js", True), ("node_modules/other.js", False)],
)
@pytest.mark.parametrize("inside", [True, False])
def test_the_lock_of_a_running_knex_is_not_released(site, script, ours, inside):
    site.make(lock=1)
    path = site.app / script
    path.parent.mkdir(parents=True, exist_ok=True)
    other = site.base / "sleep.py"
    other.write_text("import time; print(flush=True); time.sleep(60)")
    # The program only sleeps. The program is at the path of the application's knex or at another path.
    keep = path.read_bytes() if path.exists() else b""
    path.write_bytes(other.read_bytes())
    command = [sys.executable, script if inside else str(path), "migrate:latest"]
    cwd = site.app if inside else site.base
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            path.write_bytes(keep)
            if ours:
                with pytest.raises(knex_tables.KnexError, match=rf"knex is still running \(pid {child.pid} "):
                    site.unlock()
                assert "migrate:unlock" not in site.commands()
            else:
                assert site.unlock()["changed"]
        finally:
            child.kill()


def test_knex_of_another_application_is_ignored(site, tmp_path):
    site.make(lock=1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "knex").write_text("import time; print(flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "knex"], cwd=elsewhere, stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            assert site.unlock()["changed"]
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("code", "message"), [("0", "succeeded, but the lock of .* is still set"), ("1", "unlock in .* failed")]
)
def test_an_unlock_without_effect_is_reported(site, code, message):
    site.make(lock=1)
    site.set_environment(FAKE_UNLOCK=code)
    with pytest.raises(knex_tables.KnexError, match=message) as caught:
        site.unlock()
    assert caught.value.locked is True


# Input for knex


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ({}, {}, "production"),
        ({"NODE_ENV": "staging"}, {}, "staging"),
        ({"NODE_ENV": "staging"}, {"node_env": "test"}, "test"),
    ],
)
def test_the_section_of_the_knexfile(site, values, options, expected):
    site.make()
    site.set_environment(**values)
    site.migrate(**options)
    assert site.calls()[0]["env"]["NODE_ENV"] == expected


def test_knex_gets_the_environment_of_the_service_and_not_ours(site, monkeypatch):
    site.make()
    monkeypatch.setenv("OURS", "secret")
    site.set_environment(JWT_SECRET="s p a c e d")
    site.migrate()
    (call,) = site.calls()
    assert call["env"]["JWT_SECRET"] == "s p a c e d"
    assert "OURS" not in call["env"]
    assert "s p a c e d" not in " ".join(call["argv"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app_dir": "relative"}, "app_dir is 'relative': must be the absolute path"),
        ({"app_dir": "/nonexistent"}, "app_dir is '/nonexistent': must be the absolute path"),
        ({"user": "no-such-user"}, "There is no user 'no-such-user'"),
        ({"node": "no-such-node"}, "Cannot find the program 'no-such-node'"),
        ({"timeout": 0}, "timeout is 0: must be more than 0 seconds"),
        (
            {"environment_file": "/nonexistent.env"},
            "environment_file: Cannot read the environment file /nonexistent.env",
        ),
    ],
)
def test_invalid_parameters_are_named(site, options, message):
    parameters = {"app_dir": str(site.app), "db_path": "backend/itsm.db", "node": sys.executable, **options}
    with pytest.raises(knex_tables.KnexError, match=message):
        knex.Migrator(**parameters)


def test_without_the_applications_own_knex_no_other_is_searched(site, monkeypatch):
    site.make()
    site.knex.unlink()
    monkeypatch.setenv("PATH", f"{site.base}:{os.environ['PATH']}")
    (site.base / "knex").write_text("#!/bin/sh\n")
    with pytest.raises(
        knex_tables.KnexError, match=rf"There is no node_modules/.bin/knex in {site.app}: install the modules"
    ):
        site.migrate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_root_file_that_the_user_renamed_is_not_passed_to_knex(site):
    site.set_environment(JWT_SECRET="of-root")
    site.environment.chmod(0o600)
    nobody = pwd.getpwnam("nobody")
    theirs = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
        shutil.move(site.environment, theirs / ".env")
        with pytest.raises(
            knex_tables.KnexError, match=r"environment_file: .*\.env as nobody: permission denied"
        ) as error:
            site.migrator(user="nobody", environment_file=str(theirs / ".env"))
        assert "of-root" not in str(error.value)
        os.chown(theirs / ".env", nobody.pw_uid, nobody.pw_gid)
        site.migrator(user="nobody", environment_file=str(theirs / ".env"))
    finally:
        shutil.rmtree(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_knex_runs_as_the_service_user(monkeypatch):
    nobody = pwd.getpwnam("nobody")
    base = Path(tempfile.mkdtemp())
    try:
        base.chmod(0o755)
        site = Site(base)
        # Use any installed Python, because "nobody" may not have permission to read the Python that runs the tests.
        site.knex.write_text(KNEX.replace("PYTHON", "/usr/bin/env python3"))
        monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
        if shutil.which("python3") is None:
            pytest.skip("there is no python3 that every user can run")
        site.make()
        site.log.touch()
        for path in (site.log, site.app / "backend", *(site.app / "backend").iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        # The SQL statements that create the copy of knex's tables are from the user's database. Therefore, they must
        # not run as root.
        who, fill = base / "who", knex._fill_stand_in
        who.touch()
        who.chmod(0o666)

        def fill_and_tell(*arguments):
            who.write_text(" ".join(str(uid) for uid in os.getresuid()))
            fill(*arguments)

        monkeypatch.setattr(knex, "_fill_stand_in", fill_and_tell)
        result = site.migrate(latest=True, user="nobody", node="python3")
        assert who.read_text() == " ".join([str(nobody.pw_uid)] * 3)
        assert result["applied"] == ["2_incidents.js", "3_changes.js"]
        assert {call["uid"] for call in site.calls()} == {nobody.pw_uid}
        assert {path.stat().st_uid for path in (site.app / "backend").iterdir()} == {nobody.pw_uid}
    finally:
        shutil.rmtree(base)
