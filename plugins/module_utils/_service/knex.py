# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The schema's migrations: which are applied, which are pending, and applying them, with the service's own knex.

Opening a database is not looking at it: knex creates a missing one, creates its tables in an empty one, and when it
closes, SQLite writes the WAL into it. To look, knex is therefore given a stand-in: a temporary database with nothing
but the rows of its own tables, which were read without leaving a trace. Only to apply migrations it opens the real one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import shutil
import sqlite3
import tempfile
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema

_KNEX = "node_modules/.bin/knex"
# Where applications keep their migrations, and what knex loads of it by default (loadExtensions).
_USUAL_FOLDERS = ("migrations", "backend/migrations", "db/migrations", "src/migrations")
_EXTENSIONS = (".co", ".coffee", ".eg", ".iced", ".js", ".cjs", ".litcoffee", ".ls", ".ts")
_MOST_FILES = 10000
_READ_SECONDS = 30.0
_BUSY_SECONDS = 5.0
_READ_ATTEMPTS = 5
_MOST_ERROR_TEXT = 600
# Far beyond what any application has: rows and bytes of a value in a table of knex, characters of its statement.
_MOST_ROWS, _LONGEST_VALUE, _LONGEST_STATEMENT = 20000, 4096, 65536
_SHOWN = 80  # characters of a table's name

# knex's tables may have any name (migrations.tableName), but always these columns.
_MIGRATIONS_COLUMNS = {"id", "name", "batch", "migration_time"}
_LOCK_COLUMNS = {"index", "is_locked"}

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HEADING = re.compile(r"(?i)(?:found (?P<count>\d+)|no) (?P<kind>completed|pending) migration files?\b")
_KNEX_NAMES = ("knex", "knex.js")
_MIGRATES = re.compile(r"(?:^|[\s/])knex(?:[\s.]|$)|\bmigrate[:\s]")
_COMMAND = re.compile(r"\bmigrate:(\w+)")
# What only looks: as triage itself does, meanwhile.
_LOOKS = {"list", "status", "currentVersion"}
_LOCKED = re.compile(r"(?i)migration table is already locked|MigrationLocked")


class KnexError(Exception):
    """The migrations could not be looked at or applied.

    C(locked) where the reason is the migration lock; C(applied) are those that were applied nevertheless.
    """

    def __init__(self, message: str, *, locked: bool = False, applied: Sequence[str] = ()) -> None:
        """Take the one-line message, and what else is known."""
        super().__init__(message)
        self.locked = locked
        self.applied = list(applied)


def may_migrate(argv: Sequence[str]) -> bool:
    """Whether a command line is one that migrates, by knex or by a script of that name, and does not look alone."""
    line = " ".join(argv)
    commands = set(_COMMAND.findall(line))
    return _MIGRATES.search(line) is not None and not (commands and commands <= _LOOKS)


@dataclasses.dataclass(frozen=True)
class Tables:
    """What knex's own tables hold: for each its name, the statement that made it, and its rows.

    C(names): the migrations that were applied. C(several): more than one table has the columns of knex's, and only
    knex's own configuration tells which is which.
    """

    tables: Sequence[Tuple[str, str, Sequence[Sequence[Any]]]] = ()
    batch: Optional[int] = None
    locked: bool = False
    names: Sequence[str] = ()
    several: bool = False


@dataclasses.dataclass(frozen=True)
class Status:
    """The names of completed and pending migrations, the number of the last batch, whether the lock is taken."""

    completed: List[str]
    pending: List[str]
    batch: Optional[int]
    locked: bool


_explained = functools.partial(run_as.explained, failure=KnexError)


def parse_list(output: str) -> Tuple[List[str], List[str]]:
    """Return the completed and the pending migrations that C(knex migrate:list) or C(migrate:status) (2.x, 3.x) names.

    Raises KnexError where the output is not of that form, or names another number of files than it announces.
    """
    names: Dict[str, List[str]] = {}
    announced: Dict[str, int] = {}
    current = ""
    for line in _ANSI.sub("", output).splitlines():
        heading = _HEADING.match(line.strip())
        if heading is not None:
            current = heading.group("kind").lower()
            announced[current] = int(heading.group("count") or 0)
            names[current] = []
        elif line.strip() and current and len(names[current]) < announced[current]:
            names[current].append(line.strip())
    if set(names) != {"completed", "pending"} or any(len(names[kind]) != announced[kind] for kind in names):
        raise KnexError("the output of knex migrate:list is not of the form that knex 2 and 3 write")
    return names["completed"], names["pending"]


def _columns(connection: sqlite3.Connection, table: str) -> Set[str]:
    return {str(row[1]) for row in connection.execute(f"PRAGMA table_info({sqlite_schema.quoted(table)})")}


def _refuse_too_large(connection: sqlite3.Connection, table: str, columns: Set[str]) -> None:
    """Raise SqliteError if a table holds more than a table of knex can hold; SQLite counts, nothing is taken over."""

    def number(sql: str, *values: Any) -> int:
        return int(connection.execute(sql, values).fetchone()[0])

    name = sqlite_schema.quoted(table)
    what = f"table {table[:_SHOWN]}"
    if number("SELECT max(length(sql)) FROM sqlite_master WHERE name = ?", table) > _LONGEST_STATEMENT:
        raise sqlite_files.SqliteError(f"the statement of {what} has more than {_LONGEST_STATEMENT} characters")
    # The names are quoted as identifiers.
    if number(f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT ?)", _MOST_ROWS + 1) > _MOST_ROWS:  # noqa: S608
        raise sqlite_files.SqliteError(f"{what} has more than {_MOST_ROWS} rows")
    for column in sorted(columns):
        size = f"length(CAST({sqlite_schema.quoted(column)} AS BLOB))"
        if number(f"SELECT coalesce(max({size}), 0) FROM {name}") > _LONGEST_VALUE:  # noqa: S608
            raise sqlite_files.SqliteError(f"{what} has a value of more than {_LONGEST_VALUE} bytes in column {column}")


def _emit_tables(connection: sqlite3.Connection, emit: child_process.Emit, *, deadline: float) -> None:
    """Run in the reading child: one snapshot of knex's own tables, up to the deadline (time.monotonic seconds)."""
    with sqlite_reader.interrupted_at(connection, deadline):
        _emit_snapshot(connection, emit)


def _emit_snapshot(connection: sqlite3.Connection, emit: child_process.Emit) -> None:
    connection.execute("BEGIN")
    for table in sqlite_schema.tables_of(connection):
        columns = _columns(connection, table)
        if columns not in (_MIGRATIONS_COLUMNS, _LOCK_COLUMNS):
            continue
        _refuse_too_large(connection, table, columns)
        name = sqlite_schema.quoted(table)
        sql = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
        ).fetchone()[0]
        rows = connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608 - quoted as an identifier
        emit({"event": "table", "name": table, "sql": sql, "rows": rows, "lock": columns == _LOCK_COLUMNS})
        if columns == _LOCK_COLUMNS:
            taken = connection.execute(f"SELECT count(*) FROM {name} WHERE is_locked = 1").fetchone()[0]  # noqa: S608
            emit({"event": "lock", "taken": taken})
        else:
            applied = connection.execute(f"SELECT name, batch FROM {name} ORDER BY id").fetchall()  # noqa: S608
            batches = [batch for _name, batch in applied if batch is not None]
            emit({"event": "applied", "names": [row[0] for row in applied], "batch": max(batches, default=None)})


def _look_at_files(db_path: str, *, user: Optional[str] = None) -> Tuple[sqlite_files.Look, sqlite_holders.Holders]:
    try:
        found, holders = sqlite_holders.survey(db_path, user=user)
    except sqlite_files.SqliteError as error:
        raise KnexError(f"db_path: {error}") from error
    if not found.openable:
        why = found.problems[0].message if found.problems else f"{db_path} cannot be opened"
        raise KnexError(f"db_path: {why}; knex is not run, since it would open or create it")
    return found, holders


def read_tables(db_path: str, *, user: Optional[str] = None) -> Tables:
    """Return what knex's tables in the database C(db_path) hold, without leaving a trace beside it.

    Raises KnexError where there is no database there, or it cannot be read.
    """
    deadline = time.monotonic() + _READ_SECONDS
    for attempt in range(_READ_ATTEMPTS):
        found, holders = _look_at_files(db_path, user=user)
        try:
            with sqlite_reader.way_in(found, holders, busy_timeout=_BUSY_SECONDS, deadline=deadline) as way:
                messages = way.read(functools.partial(_emit_tables, deadline=deadline), deadline=deadline)
                steady = way.steady
        except sqlite_files.SqliteError as error:
            raise KnexError(f"Cannot read the migrations in {db_path}: {error}") from error
        end = messages[-1]
        if steady and set(end) == {"event"}:
            break
        time.sleep(min(0.1 * (attempt + 1), max(deadline - time.monotonic(), 0)))
    else:
        why = end.get("error") or end.get("signal") or ("it took too long" if "timeout" in end else "it keeps changing")
        raise KnexError(f"Cannot read the migrations in {db_path}: {why}")
    applied = [message for message in messages if message["event"] == "applied"]
    return Tables(
        tables=[(item["name"], item["sql"], item["rows"]) for item in messages if item["event"] == "table"],
        batch=max((item["batch"] for item in applied if item["batch"] is not None), default=None),
        locked=any(message["taken"] for message in messages if message["event"] == "lock"),
        names=[str(name) for item in applied for name in item["names"]],
        several=len(applied) > 1,
    )


class Migrator:
    """Runs the application's own knex as the service user. Raises KnexError where it cannot."""

    def __init__(
        self,
        *,
        app_dir: str,
        db_path: str,
        user: Optional[str] = None,
        node: str = "node",
        node_env: Optional[str] = None,
        environment_file: Optional[str] = None,
        timeout: float = 120.0,
        run: commands.Runner = commands.run,
    ) -> None:
        """C(db_path) may be relative to C(app_dir). C(node_env) counts before the environment file's NODE_ENV."""
        if not os.path.isabs(app_dir) or not os.path.isdir(app_dir):
            raise KnexError(f"app_dir is {app_dir!r}: must be the absolute path of an existing folder")
        if timeout <= 0:
            raise KnexError(f"timeout is {timeout:g}: must be more than 0 seconds")
        self.app_dir = app_dir
        self.db_path = os.path.join(app_dir, db_path)
        self._timeout = timeout
        self._run = run
        with _explained(f"act as user {user!r} in {app_dir}"):
            self.account = run_as.resolve(user, folder=app_dir)
        self._knex = os.path.join(app_dir, _KNEX)
        if not os.path.isfile(self._knex):
            raise KnexError(
                f"There is no {_KNEX} in {app_dir}: install the modules first (npx might download another knex)"
            )
        own = self._read_environment(environment_file)
        self._environment = self._child_environment(own, node=node, node_env=node_env)
        # Paths are no secrets, and messages are about them.
        secrets = [
            value for value in own.values() if not value.startswith("/") and value != self._environment["NODE_ENV"]
        ]
        self._redactor = redact.Redactor([*secrets, *redact.secret_values(own)])

    @staticmethod
    def _read_environment(path: Optional[str]) -> Dict[str, str]:
        if not path:
            return {}
        try:
            return env_file.read_environment_file(path)
        except env_file.EnvironmentFileError as error:
            raise KnexError(f"environment_file: {error}") from error

    def _child_environment(self, own: Mapping[str, str], *, node: str, node_env: Optional[str]) -> Dict[str, str]:
        search = f"{os.environ.get('PATH', '')}:{procfs.STANDARD_PATH}"
        program = shutil.which(node, path=search)
        if program is None:
            raise KnexError(f"Cannot find the program {node!r} on this host (looked in {search})")
        environment = {"HOME": self.account.pw_dir, "USER": self.account.pw_name, "LANG": "C.UTF-8", **own}
        environment["NODE_ENV"] = node_env or own.get("NODE_ENV") or "production"
        environment["NO_COLOR"] = "1"
        # knex is a node script: the first node on the path runs it.
        environment["PATH"] = f"{os.path.dirname(os.path.abspath(program))}:{own.get('PATH') or procfs.STANDARD_PATH}"
        return environment

    def _run_knex(self, command: str, *, database: str) -> commands.Completed:
        # The database is named here, so that it is the one that was looked at, whatever the knexfile says.
        with _explained(f"run knex {command} in {self.app_dir}"):
            return self._run(
                [self._knex, command, "--connection", database],
                timeout=self._timeout,
                cwd=self.app_dir,
                env=self._environment,
                user=self.account.pw_name,
            )

    def _failure(self, command: str, done: commands.Completed) -> str:
        if done.timed_out:
            return f"knex {command} in {self.app_dir} did not end within {self._timeout:g} s and was ended"
        said = [line.strip() for line in _ANSI.sub("", f"{done.stdout}\n{done.stderr}").splitlines()]
        said = [line for line in said if line and not re.match(r"(at |Using environment|Working directory)", line)]
        # Node repeats the message in the stack trace; the lines of code around it are noise.
        told = [
            line for line in dict.fromkeys(said) if re.search(r"(?i)error|fail|corrupt|cannot|locked|missing", line)
        ]
        message = self._redactor.text("; ".join((told or said)[:3]) or "it said nothing")
        if len(message) > _MOST_ERROR_TEXT:
            message = message[:_MOST_ERROR_TEXT] + "..."
        return f"knex {command} in {self.app_dir} failed (code {done.rc}): {message}"

    @contextlib.contextmanager
    def _stand_in(self, tables: Tables) -> Iterator[str]:
        """Make a database with knex's own tables only; it is the user's, and gone afterwards."""
        with _explained("make a temporary database"), run_as.acting_as(self.account):
            folder = tempfile.mkdtemp(prefix="itsm-nexus-")
        try:
            path = os.path.join(folder, "migrations.db")
            # The statements stand in the database of the service's user: they run in a process that is this user.
            with _explained(f"make {path}"):
                messages = child_process.in_child(
                    lambda _emit: self._fill(path, tables),
                    deadline=time.monotonic() + _READ_SECONDS,
                    read_only=False,
                    rights=(self.account.pw_uid, self.account.pw_gid),
                )
            if set(messages[-1]) != {"event"}:
                why = messages[-1].get("error") or messages[-1].get("signal") or "it took too long"
                raise KnexError(f"Cannot make {path}: {why}")
            yield path
        finally:
            atomic_files.discard_tree(folder)

    @staticmethod
    def _fill(path: str, tables: Tables) -> None:
        connection = sqlite3.connect(path)
        with contextlib.closing(connection), connection:
            for name, sql, rows in tables.tables:
                connection.execute(sql)
                for row in rows:
                    marks = ", ".join("?" * len(row))
                    connection.execute(f"INSERT INTO {sqlite_schema.quoted(name)} VALUES ({marks})", row)  # noqa: S608

    def _list(self, tables: Tables) -> Tuple[List[str], List[str]]:
        with self._stand_in(tables) as database:
            done = self._run_knex("migrate:list", database=database)
        if not done.ok:
            raise KnexError(self._failure("migrate:list", done))
        try:
            return parse_list(done.stdout)
        except KnexError as error:
            raise KnexError(f"Cannot tell the pending migrations of {self.app_dir}: {error}") from error

    def look(self) -> Status:
        """Return which migrations are completed and pending. The database is not opened for it."""
        tables = read_tables(self.db_path, user=self.account.pw_name)
        completed, pending = self._list(tables)
        return Status(completed=completed, pending=pending, batch=tables.batch, locked=tables.locked)

    def shipped(self) -> List[str]:
        """Return the migrations that the application has, in their order: what is pending where none is applied."""
        _completed, pending = self._list(Tables())
        return pending

    def _refuse(self, status: Status) -> None:
        if status.locked:
            raise KnexError(
                f"Cannot migrate {self.db_path}: the migration lock is taken, by a migration that runs or "
                "one that was killed",
                locked=True,
            )
        _found, holders = _look_at_files(self.db_path, user=self.account.pw_name)
        if holders.found:
            raise KnexError(f"Cannot migrate {self.db_path}: it is in use by {holders.named()}")

    def latest(self, before: Status) -> Status:
        """Apply the pending migrations of C(before) and return how it is then."""
        self._refuse(before)
        done = self._run_knex("migrate:latest", database=self.db_path)
        if done.ok:
            return self.look()
        applied: List[str] = []
        with contextlib.suppress(KnexError):
            applied = newly(before, self.look())
        raise KnexError(
            self._failure("migrate:latest", done),
            locked=_LOCKED.search(f"{done.stdout}\n{done.stderr}") is not None,
            applied=applied,
        )

    def migrators(self) -> List[procfs.Process]:
        """Return the processes of this application that run knex, whatever they have open."""
        folder = os.path.realpath(self.app_dir)

        def runs_knex(process: procfs.Process) -> bool:
            scripts = [word for word in process.argv[:4] if os.path.basename(word) in _KNEX_NAMES]
            if not scripts or not process.alive:
                return False
            if process.cwd is None:  # hidden from this user: taken for one of ours
                return True
            places = [process.cwd, *(os.path.realpath(os.path.join(process.cwd, word)) for word in scripts)]
            return any(place == folder or place.startswith(f"{folder}/") for place in places)

        with _explained("look for running migrations"):
            return [process for process in procfs.processes() if runs_knex(process)]

    def unlock(self) -> Status:
        """Release the migration lock where nobody can be migrating any more, and return how it is then."""
        running = self.migrators()
        if running:
            who = ", ".join(f"pid {process.pid} ({process.command})" for process in running)
            raise KnexError(
                f"Cannot release the migration lock of {self.db_path}: knex is running as {who}", locked=True
            )
        _found, holders = _look_at_files(self.db_path, user=self.account.pw_name)
        if holders.found:
            raise KnexError(
                f"Cannot release the migration lock of {self.db_path}: it is in use by {holders.named()}", locked=True
            )
        if not holders.complete:
            raise KnexError(
                f"Cannot release the migration lock of {self.db_path}: whether somebody is in it cannot be seen by "
                "this user",
                locked=True,
            )
        done = self._run_knex("migrate:unlock", database=self.db_path)
        if not done.ok:
            raise KnexError(self._failure("migrate:unlock", done), locked=True)
        after = self.look()
        if after.locked:
            raise KnexError(
                f"knex migrate:unlock ended well, but the lock of {self.db_path} is still taken", locked=True
            )
        return after


def in_folder(app_dir: str) -> Optional[List[str]]:
    """Return the migrations in the usual folder of an application, sorted; None if it has no such folder.

    The knexfile may name another folder. Only knex knows, and Node takes a while to start.
    """
    for folder in _USUAL_FOLDERS:
        with contextlib.suppress(OSError), os.scandir(os.path.join(app_dir, folder)) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_FILES)]
            return sorted(name for name in names if os.path.splitext(name)[1] in _EXTENSIONS)
    return None


def pending(applied: Sequence[str], shipped: Sequence[str]) -> List[str]:
    """Return which of the migrations that the application has are still to be applied.

    Raises KnexError where one was applied that the application does not have, as knex does.
    """
    unknown = [name for name in applied if name not in set(shipped)]
    if unknown:
        raise KnexError(f"The application lacks migrations that its database has: {', '.join(unknown)}")
    return [name for name in shipped if name not in set(applied)]


def newly(before: Status, after: Status) -> List[str]:
    """Return the migrations completed since C(before), in their order."""
    return [name for name in after.completed if name not in set(before.completed)]


def migrate(migrator: Migrator, *, state: str, check_mode: bool = False) -> Dict[str, Any]:
    """Look at the migrations, apply them (C(latest)) or release their lock (C(unlocked)).

    Returns the result as the module C(knex_migrate) documents it. Raises KnexError.
    """
    before = after = migrator.look()
    latest = state == "latest"
    unlocked = state == "unlocked" and before.locked
    if latest and before.pending and not check_mode:
        after = migrator.latest(before)
    elif unlocked and not check_mode:
        after = migrator.unlock()
    applied = newly(before, after)
    expected = before.pending if latest and check_mode else applied
    return {
        "changed": bool(expected) or unlocked,
        "completed": after.completed,
        "pending": after.pending,
        "applied": applied,
        "batch": after.batch,
        "locked": after.locked,
        "diff": {
            "before_header": migrator.db_path,
            "after_header": migrator.db_path,
            "before": "".join(f"{name}\n" for name in before.completed) + ("locked\n" if before.locked else ""),
            "after": "".join(f"{name}\n" for name in [*before.completed, *expected])
            + ("locked\n" if after.locked and not unlocked else ""),
        },
    }
