# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If a database is designed to exhaust memory or time, root reads it within limits and without side effects."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from alarms import alarm
from sqlite_samples import closed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process, integrity
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema

MEBIBYTE = 1 << 20


def made(path: Path, *statements: str) -> str:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            connection.execute(statement)
    return str(path)


# Memory


GREEDY = "length(hex(zeroblob(4 + length(a)))) > 0"
# For each check, an expression that SQLite evaluates for every row: a generated column in quick_check, and the
# condition of a partial index in integrity_check.
COMPUTED = {
    "quick": ["CREATE TABLE t (a TEXT, b TEXT AS (hex(zeroblob(4 + length(a)))) NOT NULL)"],
    "integrity": ["CREATE TABLE t (a TEXT)", f"CREATE INDEX i ON t (a) WHERE {GREEDY}"],
}
GROWN = ["PRAGMA writable_schema=ON", "UPDATE sqlite_master SET sql = replace(sql, 'zeroblob(4', 'zeroblob(400000000')"]


def answer_and_memory(code: str, *arguments: str) -> tuple[Any, int]:
    """Evaluate `code` in a separate process. Return the value, and the peak memory in KiB of the largest child.

    The kernel reports only the peak across all children that a process has ever had. Therefore, a separate process is
    needed.
    """
    text = f"""
        import json, resource, sys, time
        from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
        from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process, integrity
        from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
        answer = {code}
        print(json.dumps([answer, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    answer, kibibytes = json.loads(done.stdout)
    return answer, kibibytes


@pytest.mark.parametrize("check", COMPUTED)
def test_values_computed_per_row_have_a_memory_limit(tmp_path: Path, check: str) -> None:
    path = made(tmp_path / "itsm.db", *COMPUTED[check], "INSERT INTO t (a) VALUES ('row')", *GROWN)
    call = "sqlite_check.check(path=sys.argv[1], checks=[sys.argv[2]])"
    result, kibibytes = answer_and_memory(call, path, check)
    assert kibibytes < 300 * 1024
    # There is no sign of damage, but the check is inconclusive.
    assert (result["problems"], result["healthy"], result["row_counts"]) == ([], True, {"t": 1})
    assert result["checks"][check].startswith("skipped: ")
    assert result["conclusive"] is False


def test_a_constraint_has_a_memory_limit(tmp_path: Path) -> None:
    path = made(
        tmp_path / "itsm.db", f"CREATE TABLE t (a TEXT CHECK ({GREEDY}))", "INSERT INTO t VALUES ('row')", *GROWN
    )
    # SQLite checks constraints only on a writable connection. Such a connection is used for the copy of a database that
    # has a hot journal.
    call = """child_process.in_child(
            lambda emit: emit(integrity.run_check(
                sqlite_reader.connect(sys.argv[1], way="copy", busy_timeout=1), "quick")),
            deadline=time.monotonic() + 30, read_only=False)"""
    (said, _end), kibibytes = answer_and_memory(call, path)
    assert kibibytes < 600 * 1024
    assert "too big" in said["error"] or "out of memory" in said["error"]


def test_a_child_that_needs_more_memory_reports_it() -> None:
    def work(_emit: child_process.Emit) -> None:
        bytearray(2 << 30)

    for read_only in (True, False):
        (end,) = child_process.in_child(work, deadline=time.monotonic() + 20, read_only=read_only)
        assert "memory" in end["error"]


# Kernel limits


def limits(*, read_only: bool) -> dict[str, int]:
    def work(emit: child_process.Emit) -> None:
        kinds = {"cpu": resource.RLIMIT_CPU, "files": resource.RLIMIT_FSIZE, "core": resource.RLIMIT_CORE}
        emit({"event": "limits", **{name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}})

    told, end = child_process.in_child(work, deadline=time.monotonic() + 20, read_only=read_only)
    assert end == {"event": "end"}
    return told


def test_a_reading_process_writes_no_file_and_gets_the_time_up_to_its_deadline() -> None:
    told = limits(read_only=True)
    assert (told["files"], told["core"]) == (0, 0)
    assert 20 < told["cpu"] < 50


def test_a_process_that_has_to_write_may_write() -> None:
    told = limits(read_only=False)
    assert told["files"] == resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    assert 20 < told["cpu"] < 50


def test_a_limit_is_never_raised() -> None:
    def inner(emit: child_process.Emit) -> None:
        emit({"event": "cpu", "limit": resource.getrlimit(resource.RLIMIT_CPU)[1]})

    def outer(emit: child_process.Emit) -> None:
        for message in child_process.in_child(inner, deadline=time.monotonic() + 1000, read_only=False):
            emit(message)

    messages = child_process.in_child(outer, deadline=time.monotonic() + 20, read_only=False)
    assert 20 < messages[0]["limit"] < 50


# Output of a child process


def test_a_child_with_endless_output_is_killed_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    # Lower the limit, because reading the maximum amount of output from a child takes seconds.
    monkeypatch.setattr(child_process, "_MOST_SAID", MEBIBYTE)

    def work(emit: child_process.Emit) -> None:
        while True:
            emit({"event": "word"})

    begun = time.monotonic()
    with alarm(20):
        messages = child_process.in_child(work, deadline=time.monotonic() + 0.2)
    assert time.monotonic() - begun < 15
    assert messages[-1].keys() & {"timeout", "error"}


def test_a_child_with_too_much_output_is_killed() -> None:
    def work(emit: child_process.Emit) -> None:
        for _ in range(60):
            emit({"event": "word", "text": "x" * MEBIBYTE})

    messages = child_process.in_child(work, deadline=time.monotonic() + 60)
    assert messages[-1]["error"] == "the process that reads the database sent more than 16777216 bytes"
    assert sum(len(json.dumps(message)) for message in messages) < 17 * MEBIBYTE


def test_a_long_line_of_a_check_is_shortened() -> None:
    class Connection:
        def execute(self, _statement: str) -> list[tuple[str]]:
            return [("x" * 10 * MEBIBYTE,)]

    for name in ("quick", "foreign_keys"):
        connection: Any = Connection()
        if name == "foreign_keys":
            connection.execute = lambda _statement: [("t" * MEBIBYTE, 1, "u" * MEBIBYTE)]
        (line,) = integrity.run_check(connection, name)["lines"]
        assert len(line) < 3000


# Connection permissions


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = str(tmp_path / "itsm.db")
    closed(path)
    with contextlib.closing(sqlite_reader.connect(path, way="alone", busy_timeout=1.0)) as opened:
        yield opened


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH ':memory:' AS other",
        "PRAGMA writable_schema=ON",
        "PRAGMA trusted_schema=ON",
        "PRAGMA journal_mode=DELETE",
        "PRAGMA wal_checkpoint",
        "PRAGMA optimize",
        "PRAGMA temp_store_directory='/tmp'",
        "SELECT load_extension('/tmp/x')",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT edit('x', 'touch')",
        "SELECT fts3_tokenizer('simple')",
        "CREATE TEMP TABLE t (a)",
        "CREATE VIRTUAL TABLE temp.t USING fts5(a)",
        "VACUUM INTO '/tmp/x'",
    ],
)
def test_a_connection_for_reading_cannot_do_anything_else(connection: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited|authorization denied|no such function"):
        connection.execute(statement).fetchall()


def test_a_connection_for_reading_reads(connection: sqlite3.Connection) -> None:
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA integrity_check(10)").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA cell_size_check").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone()
    connection.execute(f"PRAGMA mmap_size={1 << 40}")
    assert sum(count or 0 for count in sqlite_schema.count_rows(connection).values()) > 0


def test_virtual_tables_are_checked_as_before(tmp_path: Path) -> None:
    statements = ["CREATE TABLE plain (a)", "CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)"]
    statements += ["CREATE VIRTUAL TABLE words USING fts5(text)", "INSERT INTO words VALUES ('one')"]
    try:
        path = made(tmp_path / "itsm.db", *statements, "INSERT INTO boxes VALUES (1, 0, 1)")
    except sqlite3.OperationalError as error:
        pytest.skip(str(error))
    result = sqlite_check.check(path=path, checks=["quick", "integrity"])
    assert (result["problems"], result["checks"]["quick"], result["checks"]["integrity"]) == ([], "ok", "ok")


# knex's tables

MIGRATIONS = "CREATE TABLE knex_migrations (id integer primary key, name varchar(255), batch integer, migration_time)"
LOCK = 'CREATE TABLE knex_migrations_lock ("index" integer primary key, is_locked integer)'


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (
            ["INSERT INTO knex_migrations VALUES (1, replace(hex(zeroblob(1500000)), '0', 'x'), 1, 1)"],
            "table knex_migrations has a value of more than 4096 bytes in column name",
        ),
        (
            ["INSERT INTO knex_migrations VALUES (1, 'a', 1, zeroblob(3000000))"],
            "table knex_migrations has a value of more than 4096 bytes in column migration_time",
        ),
        (
            [
                "INSERT INTO knex_migrations WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
                " SELECT i + 1 FROM n LIMIT 20001) SELECT i, 'a', 1, 1 FROM n"
            ],
            "table knex_migrations has more than 20000 rows",
        ),
        (
            [
                "DROP TABLE knex_migrations",
                MIGRATIONS.replace("batch integer", f"batch integer DEFAULT '{'x' * 100_000}'"),
            ],
            "the statement of table knex_migrations has more than 65536 characters",
        ),
    ],
    ids=["name", "blob", "rows", "statement"],
)
def test_tables_of_knex_that_are_far_too_large_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statements: list[str], told: str
) -> None:
    monkeypatch.setattr(knex_tables, "_READ_ATTEMPTS", 1)
    path = made(tmp_path / "itsm.db", MIGRATIONS, LOCK, *statements)
    begun = time.monotonic()
    with alarm(60), pytest.raises(knex_tables.KnexError, match=told):
        knex_tables.read_tables(path)
    assert time.monotonic() - begun < 15


def test_a_migration_name_of_30_megabytes_does_not_exceed_the_deadline(tmp_path: Path) -> None:
    row = "INSERT INTO knex_migrations VALUES (1, replace(hex(zeroblob(15000000)), '0', 'x'), 1, 1)"
    path = made(tmp_path / "itsm.db", MIGRATIONS, LOCK, row)
    begun = time.monotonic()
    with alarm(60), contextlib.suppress(knex_tables.KnexError):
        knex_tables.read_tables(path, timeout=1.0)
    assert time.monotonic() - begun < 8


def test_all_attempts_at_the_tables_of_knex_share_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "itsm.db", MIGRATIONS, LOCK)
    monkeypatch.setattr(knex_tables, "_READ_ATTEMPTS", 2)
    deadlines = []

    def late(_work: Callable[..., Any], *, deadline: float, **_named: Any) -> list[child_process.Message]:
        deadlines.append(deadline)
        return [{"event": "end", "timeout": True}]

    monkeypatch.setattr(child_process, "in_child", late)
    with pytest.raises(knex_tables.KnexError, match="it took too long"):
        knex_tables.read_tables(path)
    assert (len(deadlines), len(set(deadlines))) == (2, 1)


def test_a_query_of_knex_that_takes_long_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "itsm.db", MIGRATIONS, LOCK)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    monkeypatch.setattr(sqlite_schema, "tables_of", lambda connection: connection.execute(endless).fetchall())
    begun = time.monotonic()
    with alarm(30), pytest.raises(knex_tables.KnexError, match="interrupted"):
        knex_tables.read_tables(path, timeout=0.5)
    assert time.monotonic() - begun < 2


def test_ordinary_tables_are_read_as_before(tmp_path: Path) -> None:
    path = made(
        tmp_path / "itsm.db",
        MIGRATIONS,
        LOCK,
        "INSERT INTO knex_migrations VALUES (1, '001_users.js', 1, 1700000000000)",
        "INSERT INTO knex_migrations_lock VALUES (1, 0)",
    )
    tables = knex_tables.read_tables(path)
    assert (tables.names, tables.batch, tables.locked) == (["001_users.js"], 1, False)
