# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""List and apply schema migrations with the service's own knex.

knex changes each database that it opens. If a database is missing, knex creates it. If a database is empty, knex
creates its own tables in it. When knex closes the database, SQLite copies the WAL into the database. Therefore, knex
lists the migrations from a temporary database with a copy of knex's own tables. These tables are read from the real
database without changing any file. knex opens the real database only to migrate it or to release the lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
from typing import Any, ContextManager, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    labelled,
    message,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, handed_env_file, procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables, migration_names
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.knex_tables import KnexError, Tables
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema

# Options from the "knex" documentation fragment, except "timeout". These options are the parameters of Migrator.
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "app_dir": {"type": "path", "required": True},
    "db_path": {"type": "path", "required": True},
    "user": {"type": "str"},
    "node_env": {"type": "str"},
    "environment_file": {"type": "path"},
    "node": {"type": "str", "default": "node"},
}

_KNEX = "node_modules/.bin/knex"
_MOST_ERROR_TEXT = 600
_KNEX_NAMES = ("knex", "knex.js")
_MIGRATES = lazy(r"(?:^|[\s/])knex(?:[\s.]|$)|\bmigrate[:\s]")
_COMMAND = lazy(r"\bmigrate:(\w+)")
# Commands that only read. Triage itself may be running one of these commands.
_LOOKS = {"list", "status", "currentVersion"}
_LOCKED = lazy(r"(?i)migration table is already locked|MigrationLocked")


def may_migrate(argv: Sequence[str]) -> bool:
    """Return True if a command line may apply migrations, with knex or with an npm script such as migrate:latest."""
    line = " ".join(argv)
    commands = set(_COMMAND.findall(line))
    return _MIGRATES.search(line) is not None and not (commands and commands <= _LOOKS)


class Status(NamedTuple):
    """The names of completed and pending migrations, the number of the last batch, and the lock state."""

    completed: List[str]
    pending: List[str]
    batch: Optional[int]
    locked: bool


def _explained(deed: str, /, **values: str) -> ContextManager[None]:
    return run_as.explained(deed, failure=KnexError, **values)


class Migrator:
    """Runs the application's own knex as the service user. The methods raise KnexError if they fail."""

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
        """Set the parameters. db_path may be relative to app_dir. node_env overrides NODE_ENV in environment_file."""
        if not os.path.isabs(app_dir) or not os.path.isdir(app_dir):
            raise KnexError(f"app_dir is {app_dir!r}: must be the absolute path of an existing folder")
        if timeout <= 0:
            raise KnexError(f"timeout is {timeout:g}: must be more than 0 seconds")
        self.app_dir = app_dir
        self.db_path = os.path.join(app_dir, db_path)
        self._timeout = timeout
        self._run = run
        with _explained("act_as", user=repr(user), folder=app_dir):
            self.account = run_as.resolve(user, folder=app_dir)
        self._knex = os.path.join(app_dir, _KNEX)
        if not os.path.isfile(self._knex):
            raise KnexError(message("reason.knex.not_installed", program=_KNEX, folder=app_dir))
        own = self._read_environment(environment_file)
        self._environment = self._child_environment(own, node=node, node_env=node_env)
        # Paths are not secrets, and messages must show them.
        secrets = [
            value for value in own.values() if not value.startswith("/") and value != self._environment["NODE_ENV"]
        ]
        self._redactor = redact.Redactor([*secrets, *redact.secret_values(own)])

    def _read_environment(self, path: Optional[str]) -> Dict[str, str]:
        if not path:
            return {}
        try:
            return handed_env_file.read(path, account=self.account, run=self._run)
        except env_file.EnvironmentFileError as error:
            raise KnexError(labelled("environment_file", error.told)) from error

    def _child_environment(self, own: Mapping[str, str], *, node: str, node_env: Optional[str]) -> Dict[str, str]:
        search = f"{os.environ.get('PATH', '')}:{procfs.STANDARD_PATH}"
        program = shutil.which(node, path=search)
        if program is None:
            raise KnexError(message("reason.npm.no_program", program=repr(node), path=search))
        environment = {"HOME": self.account.pw_dir, "USER": self.account.pw_name, "LANG": "C.UTF-8", **own}
        environment["NODE_ENV"] = node_env or own.get("NODE_ENV") or "production"
        environment["NO_COLOR"] = "1"
        # The first node on PATH runs the knex script. Therefore, the folder of the requested node must be the first
        # entry.
        environment["PATH"] = f"{os.path.dirname(os.path.abspath(program))}:{own.get('PATH') or procfs.STANDARD_PATH}"
        return environment

    def run_knex(self, command: str, *, database: str) -> commands.Completed:
        # Pass the path of the database that was checked. The knexfile may specify another database.
        with _explained("run_knex", command=command, folder=self.app_dir):
            return self._run(
                [self._knex, command, "--connection", database],
                timeout=self._timeout,
                cwd=self.app_dir,
                env=self._environment,
                user=self.account.pw_name,
            )

    def failure(self, command: str, done: commands.Completed) -> Message:
        if done.timed_out:
            seconds = f"{self._timeout:g}"
            return message("reason.knex.command_late", command=command, folder=self.app_dir, seconds=seconds)
        said = [line.strip() for line in migration_names.ANSI.sub("", f"{done.stdout}\n{done.stderr}").splitlines()]
        said = [line for line in said if line and not re.match(r"(at |Using environment|Working directory)", line)]
        # Node repeats the message in the stack trace. The surrounding lines of code are not useful.
        told = [
            line for line in dict.fromkeys(said) if re.search(r"(?i)error|fail|corrupt|cannot|locked|missing", line)
        ]
        text = self._redactor.text("; ".join((told or said)[:3]))
        if len(text) > _MOST_ERROR_TEXT:
            text = text[:_MOST_ERROR_TEXT] + "..."
        why = quoted(text) if text else message("reason.knex.silent")
        return message("reason.knex.command_failed", command=command, folder=self.app_dir, code=str(done.rc), why=why)

    @contextlib.contextmanager
    def _stand_in(self, tables: Tables) -> Iterator[str]:
        """Create a temporary database that is owned by the user and contains only knex's own tables. Yield its path."""
        with _explained("make_temporary"), run_as.acting_as(self.account):
            folder = tempfile.mkdtemp(prefix="itsm-nexus-")
        try:
            path = os.path.join(folder, "migrations.db")
            # The statements were read from a database that the service's user controls, so they run as that user.
            with _explained("make", path=path):
                answers = child_process.in_child(
                    lambda _emit: _fill_stand_in(path, tables),
                    deadline=time.monotonic() + knex_tables.READ_SECONDS,
                    read_only=False,
                    rights=(self.account.pw_uid, self.account.pw_gid),
                )
            if set(answers[-1]) != {"event"}:
                said = answers[-1].get("error") or answers[-1].get("signal")
                why = quoted(said) if said else message("reason.knex.late")
                raise KnexError(message("reason.knex.not_made", path=path, why=why))
            yield path
        finally:
            # The user's knex could have moved another folder to this path.
            with run_as.acting_as(self.account):
                atomic_files.discard_tree(folder)

    def _list(self, tables: Tables) -> Tuple[List[str], List[str]]:
        with self._stand_in(tables) as database:
            done = self.run_knex("migrate:list", database=database)
        if not done.ok:
            raise KnexError(self.failure("migrate:list", done))
        try:
            return migration_names.parse_list(done.stdout)
        except KnexError as error:
            raise KnexError(message("reason.knex.not_listed", folder=self.app_dir, why=error.told)) from error

    def look(self) -> Status:
        """Return the migrations and the lock state. knex does not open the real database."""
        tables = knex_tables.read_tables(self.db_path, user=self.account.pw_name)
        completed, pending = self._list(tables)
        return Status(completed=completed, pending=pending, batch=tables.batch, locked=tables.locked)

    def shipped(self) -> List[str]:
        """Return the application's migrations in order. For an empty database, knex lists all migrations as pending."""
        _completed, pending = self._list(Tables())
        return pending


def _fill_stand_in(path: str, tables: Tables) -> None:
    connection = sqlite3.connect(path)
    with contextlib.closing(connection), connection:
        for name, sql, rows in tables.tables:
            connection.execute(sql)
            for row in rows:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {sqlite_schema.quoted(name)} VALUES ({marks})", row)  # noqa: S608


def _refuse_taken(migrator: Migrator, status: Status) -> None:
    if status.locked:
        raise KnexError(
            message("reason.knex.lock_taken", path=migrator.db_path),
            locked=True,
        )
    _found, holders = knex_tables.look_at_files(migrator.db_path, user=migrator.account.pw_name)
    if holders.found:
        raise KnexError(message("reason.knex.in_use", path=migrator.db_path, holders=holders.named()))


def _apply_pending(migrator: Migrator, before: Status) -> Status:
    """Apply the pending migrations and return the new status."""
    _refuse_taken(migrator, before)
    done = migrator.run_knex("migrate:latest", database=migrator.db_path)
    if done.ok:
        return migrator.look()
    applied: List[str] = []
    with contextlib.suppress(KnexError):
        applied = newly(before, migrator.look())
    raise KnexError(
        migrator.failure("migrate:latest", done),
        locked=_LOCKED.search(f"{done.stdout}\n{done.stderr}") is not None,
        applied=applied,
    )


def running_migrations(migrator: Migrator) -> List[procfs.Process]:
    """Return the processes of this application that run knex, even if they do not have the database open."""
    folder = os.path.realpath(migrator.app_dir)

    def runs_knex(process: procfs.Process) -> bool:
        scripts = [word for word in process.argv[:4] if os.path.basename(word) in _KNEX_NAMES]
        if not scripts or not process.alive:
            return False
        # If this user cannot see the process's folder, assume that the process is part of this application.
        if process.cwd is None:
            return True
        places = [process.cwd, *(os.path.realpath(os.path.join(process.cwd, word)) for word in scripts)]
        return any(place == folder or place.startswith(f"{folder}/") for place in places)

    with _explained("find_migrations"):
        return [process for process in procfs.processes() if runs_knex(process)]


def _unlock(migrator: Migrator) -> Status:
    """Release the migration lock if no process can be running migrations, and return the new status."""
    running = running_migrations(migrator)
    if running:
        who = ", ".join(f"pid {process.pid} ({process.command})" for process in running)
        raise KnexError(message("reason.knex.running", path=migrator.db_path, processes=who), locked=True)
    _found, holders = knex_tables.look_at_files(migrator.db_path, user=migrator.account.pw_name)
    if holders.found:
        raise KnexError(message("reason.knex.lock_in_use", path=migrator.db_path, holders=holders.named()), locked=True)
    if not holders.complete:
        raise KnexError(
            message("reason.knex.lock_hidden", path=migrator.db_path),
            locked=True,
        )
    done = migrator.run_knex("migrate:unlock", database=migrator.db_path)
    if not done.ok:
        raise KnexError(migrator.failure("migrate:unlock", done), locked=True)
    after = migrator.look()
    if after.locked:
        raise KnexError(message("reason.knex.still_locked", path=migrator.db_path), locked=True)
    return after


def newly(before: Status, after: Status) -> List[str]:
    """Return the migrations that are completed in `after` but not in `before`, in their order."""
    return [name for name in after.completed if name not in set(before.completed)]


def look(migrator: Migrator) -> Dict[str, Any]:
    """Return the result of the knex_migrate_info module. Raises KnexError."""
    return migrator.look()._asdict()


def migrate(migrator: Migrator, *, state: str, check_mode: bool = False) -> Dict[str, Any]:
    """Apply the pending migrations (state latest) or release the migration lock (state unlocked).

    Returns the result of the knex_migrate module. Raises KnexError.
    """
    before = after = migrator.look()
    latest = state == "latest"
    unlocked = state == "unlocked" and before.locked
    if latest and before.pending and not check_mode:
        after = _apply_pending(migrator, before)
    elif unlocked and not check_mode:
        after = _unlock(migrator)
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
