# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations that root performs on files that the service's user owns, with one case per module and state."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import choice, off_host, retention, scheduled
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import discover as service_discovery
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import messages as discovery_messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import measure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    disk_reclaim,
    npm,
    npm_application,
    npm_lock,
    preflight_findings,
    reclaim_patterns,
    release_steps,
    request_log,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight as service_preflight
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import release as service_release
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates, start_safety
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import owner as sqlite_owner
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run

# Content that exists only in the victims' files.
OF_ROOT = b"canary-of-root"
OF_ACCOUNT = b"canary-of-another-account"

ERRORS = (
    BackupError,
    discovery_messages.DiscoveryError,
    request_log.RequestLogError,
    reclaim_patterns.DiskReclaimError,
    env_file.EnvironmentFileError,
    npm_lock.NpmError,
    release_steps.ReleaseError,
    sqlite_files.SqliteError,
    sqlite_owner.SqliteOwnerError,
)

USER = "nobody"
_ROWS = 200


@dataclasses.dataclass(frozen=True)
class Case:
    """A call to our code.

    lay: creates the files for the call in a folder. In the victims' folders, each file contains a mark. If this mark is
    found elsewhere, content has leaked. run: makes the call. Its arguments are the user's folder and our own folder.
    after: changes the user's files after `lay`. errors: the errors that the call documents.
    """

    name: str
    lay: Callable[..., None]
    run: Callable[[Path, Path], Any]
    after: Optional[Callable[[Path], None]] = None
    errors: Tuple[Type[Exception], ...] = ERRORS


def _database(path: Path, mark: bytes, *, crashed: bool) -> None:
    """Create a database with rows. crashed: if True, some rows are only in the WAL, as after a crash."""
    with tempfile.TemporaryDirectory() as work:
        connection = sqlite3.connect(f"{work}/db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE incidents (id INTEGER PRIMARY KEY, title TEXT)")
        rows = [(f"row {number} {mark.decode()}",) for number in range(_ROWS)]
        connection.executemany("INSERT INTO incidents (title) VALUES (?)", rows)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO incidents (title) VALUES (?)", (f"in the WAL {mark.decode()}",))
        if not crashed:
            connection.close()
        for suffix in ("", "-wal") if crashed else ("",):
            shutil.copyfile(f"{work}/db{suffix}", f"{path}{suffix}")
        connection.close()


def _lay_database(folder: Path, *, mark: bytes = b"", crashed: bool = True, damaged: bool = False) -> None:
    (folder / "backend").mkdir()
    database = folder / "backend" / "itsm.db"
    _database(database, mark, crashed=crashed)
    if damaged:
        shutil.copyfile(database, f"{database}.backup_1")
        with database.open("r+b") as stream:
            stream.seek(4096)
            stream.write(b"\xff" * 4096)


def _crashed(folder: Path, *, mark: bytes = b"") -> None:
    _lay_database(folder, mark=mark)


def _closed(folder: Path, *, mark: bytes = b"") -> None:
    _lay_database(folder, mark=mark, crashed=False)


def _damaged(folder: Path, *, mark: bytes = b"") -> None:
    _lay_database(folder, mark=mark, damaged=True)


def _cut_off(folder: Path, *, mark: bytes = b"") -> None:
    """Create the files of a recovery that was killed after moving the old database away and before replacing it."""
    _lay_database(folder, mark=mark, damaged=True)
    backend = folder / "backend"
    work = backend / ".itsm.db.restore"
    (work / "old").mkdir(parents=True)
    for suffix in ("", "-wal"):
        (backend / f"itsm.db{suffix}").rename(work / "old" / f"itsm.db{suffix}")
    (backend / "itsm.db").symlink_to(work / "unfinished" / "itsm.db")


def _roots(folder: Path) -> None:
    """Make root the owner of the database, as a command that runs as root would."""
    os.chown(folder / "backend" / "itsm.db", 0, 0)


def _path(folder: Path) -> str:
    return str(folder / "backend" / "itsm.db")


def _restore(theirs: Path, ours: Path, **how: Any) -> Dict[str, Any]:
    return sqlite_restore.restore(  # noqa: S604 - the name of a program
        path=_path(theirs),
        evidence_dir=str(ours / "evidence"),
        owner=USER,
        backup_patterns=["*.backup_*"],
        backup_dirs=[str(theirs / "backend")],
        shell="no-such-shell",
        time_budget=10.0,
        timeout=15.0,
        **how,
    )


def _sqlite_cases() -> List[Case]:
    def check(theirs: Path, ours: Path) -> Any:
        return sqlite_check.check(path=_path(theirs), owner=USER, checks=["quick", "integrity"], time_budget=10.0)

    def backup(theirs: Path, ours: Path) -> Any:
        return sqlite_backup.backup(path=_path(theirs), user=USER, dest_dir=str(theirs / "backend"), keep=1, timeout=10)

    def backup_to_ours(theirs: Path, ours: Path) -> Any:
        return sqlite_backup.backup(path=_path(theirs), user=USER, dest_dir=str(ours / "backups"), timeout=10)

    def backup_on_schedule(theirs: Path, ours: Path) -> Any:
        """Create three backups in a user-owned folder.

        When the third backup is created, the first one is removed. Each backup is passed to a command.
        """
        order = scheduled.Order(
            path=_path(theirs),
            folder=str(theirs / "backend"),
            limits=retention.Limits(2),
            state_dir=str(ours / "state"),
            user=USER,
            timeout=10.0,
            command=off_host.Command(["/bin/cat"], timeout=10.0),
        )
        told = [scheduled.make(order) for _number in range(3)]
        last = told[-1]["backup"]["path"]
        asked = {"where": "", "user": USER, "state_dir": order.state_dir, "check_mode": False}
        return [*told, off_host.answer(last, offset=0, **asked)]

    def choose(theirs: Path, ours: Path) -> Any:
        search = choice.Search(
            _path(theirs), "", [str(theirs / "backend")], [], USER, candidates.Known(), ([], []), 10.0
        )
        named = search._replace(named=f"{_path(theirs)}.backup_1")
        return [choice.newest(each, deadline=time.monotonic() + 10.0) for each in (search, named)]

    def evidence(theirs: Path, ours: Path) -> Any:
        return sqlite_backup.backup(path=_path(theirs), user=USER, dest_dir=str(ours / "evidence"), evidence=True)

    def checkpoint(theirs: Path, ours: Path) -> Any:
        return sqlite_checkpoint.checkpoint(path=_path(theirs), user=USER, time_budget=10.0)

    def ready(theirs: Path, ours: Path) -> Any:
        seen = measure.database(_path(theirs), user=USER, budget=5.0, lock_after=0.01)
        return [seen, measure.disks({"database": str(theirs / "backend")})]

    def owner(theirs: Path, ours: Path) -> Any:
        return sqlite_owner.restore(path=_path(theirs), user=USER)

    cases = [
        Case("sqlite_info of a crashed database", _crashed, check),
        Case("sqlite_info of a closed database", _closed, check),
        Case("sqlite_info of a damaged database", _damaged, check),
        Case("sqlite_info of a database of root", _crashed, check, _roots),
        Case("sqlite_backup beside the database", _crashed, backup),
        Case("sqlite_backup into our folder", _crashed, backup_to_ours),
        Case("sqlite_backup evidence", _damaged, evidence),
        Case("scheduled_backup beside the database", _crashed, backup_on_schedule),
        Case("restore_drill, choice of the backup", _damaged, choose),
        Case("sqlite_wal", _crashed, checkpoint),
        Case("health_probe, readiness", _crashed, ready),
        Case("health_probe, readiness of a damaged database", _damaged, ready),
        Case("sqlite_owner", _crashed, owner, _roots),
        Case("sqlite_restore, check mode", _damaged, lambda a, b: _restore(a, b, act=True, check_mode=True)),
        Case("sqlite_restore, check mode, cut off", _cut_off, lambda a, b: _restore(a, b, act=True, check_mode=True)),
        Case("sqlite_restore, cut off", _cut_off, lambda a, b: _restore(a, b, act=True)),
    ]
    for method in ("salvage", "backup", "empty"):
        cases.append(
            Case(
                f"sqlite_restore by {method}",
                _damaged,
                lambda a, b, method=method: _restore(a, b, act=True, method=method, confirm_empty=True),
            )
        )
    return cases


_NODE = """#!/bin/sh
shift 3
printf '\\n@npm_ci %s\\n' '{"platform": "linux", "arch": "x64", "abi": "115"}'
for name in "$@"; do
  printf '\\n@npm_ci %s\\n' "{\\"name\\": \\"$name\\"}"
done
printf '\\n@npm_ci %s\\n' '{"done": true}'
"""

_NPM = """#!/bin/sh
mkdir -p node_modules/express
echo '{"version": "5.1.0"}' >node_modules/express/package.json
cp package-lock.json node_modules/.package-lock.json
"""


def _lay_modules(folder: Path, *, mark: bytes = b"") -> None:
    """Create an application whose installed modules are older than the versions in the lock file."""
    for version, place in (("4.0.0", folder / "node_modules"), ("5.1.0", None)):
        lock = {"lockfileVersion": 3, "packages": {"node_modules/express": {"version": version}}, "x": mark.decode()}
        if place is None:
            (folder / "package-lock.json").write_text(json.dumps(lock))
            continue
        (place / "express").mkdir(parents=True)
        (place / "express" / "package.json").write_text(json.dumps({"version": version, "x": mark.decode()}))
        (place / ".package-lock.json").write_text(json.dumps(lock))
    (folder / "package.json").write_text(json.dumps({"x": mark.decode()}))


def _program(folder: Path, name: str, text: str) -> str:
    """Create a program that root owns and that everybody may run."""
    path = folder.parent / "tmp" / name
    if not path.exists():
        path.write_text(text)
        path.chmod(0o755)
    return str(path)


def _npm_cases() -> List[Case]:
    def install(theirs: Path, ours: Path, *, check_mode: bool = False) -> Any:
        application = npm_application.Application(
            app_dir=str(theirs), user=USER, node=_program(theirs, "node", _NODE), npm=_program(theirs, "npm", _NPM)
        )
        return npm.npm_ci(application, timeout=10.0, check_mode=check_mode)

    return [
        Case("npm_ci", _lay_modules, install),
        Case("npm_ci, check mode", _lay_modules, lambda a, b: install(a, b, check_mode=True)),
    ]


def _lay_releases(folder: Path, *, mark: bytes = b"") -> None:
    for version in ("v1", "v2"):
        release = folder / "releases" / version
        (release / "backend" / "migrations").mkdir(parents=True)
        (release / "package.json").write_text(json.dumps({"version": version, "x": mark.decode()}))
    (folder / "current").symlink_to(folder / "releases" / "v2")
    (folder / "shared").mkdir()
    with sqlite3.connect(folder / "shared" / "itsm.db") as connection:
        connection.execute("CREATE TABLE knex_migrations (id INTEGER, name TEXT, batch INTEGER, migration_time TEXT)")
        connection.execute("CREATE TABLE notes AS SELECT ? AS text", (mark.decode(),))
    connection.close()


def _lay_repository(folder: Path, *, mark: bytes = b"") -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    app = folder / "app"
    app.mkdir()

    def git(*arguments: str) -> None:
        subprocess.run(["git", *identity, *arguments], cwd=app, check=True, capture_output=True)

    git("init", "--quiet")
    for version in ("v1", "v2"):
        (app / "package.json").write_text(json.dumps({"version": version, "x": mark.decode()}))
        git("add", ".")
        git("commit", "--quiet", "-m", version)
        git("tag", version)
    shutil.rmtree(app / ".git" / "hooks")


def _release_cases() -> List[Case]:
    def roll_back(theirs: Path, ours: Path, *, app: str, strategy: str) -> Any:
        releases = release_steps.Releases(
            app_dir=str(theirs / app),
            db_path=str(theirs / "shared" / "itsm.db" if strategy == "symlink" else ours / "itsm.db"),
            state_dir=str(ours),
            user=USER,
            timeout=10.0,
        )
        if strategy == "git":
            _database(ours / "itsm.db", b"", crashed=False)
        return service_release.roll_back(releases, strategy=strategy)

    return [
        Case("release_rollback, links", _lay_releases, lambda a, b: roll_back(a, b, app="current", strategy="symlink")),
        Case("release_rollback, git", _lay_repository, lambda a, b: roll_back(a, b, app="app", strategy="git")),
    ]


def _lay_logs(folder: Path, *, mark: bytes = b"") -> None:
    (folder / "logs").mkdir()
    for number in range(3):
        (folder / "logs" / f"app-{number}.log").write_bytes(b"2026-03-02T01:02:03.456Z GET /x 200 " + mark + b"\n")
    (folder / ".env").write_text(f"NODE_ENV=production\nNOTE={mark.decode()}\n")


def _file_cases() -> List[Case]:
    def reclaim(theirs: Path, ours: Path) -> Any:
        return disk_reclaim.reclaim(
            rules=[reclaim_patterns.Rule(pattern=str(theirs / "logs" / "*.log"))],
            targets=[reclaim_patterns.Target(path=str(theirs), available=1 << 62)],
            state_dir=str(ours),
        )

    def environment(theirs: Path, ours: Path) -> Any:
        return sorted(env_file.read_environment_file(str(theirs / ".env")).items())

    def log(theirs: Path, ours: Path) -> Any:
        return safe_open.read(str(theirs / "logs" / "app-0.log")).decode()

    def requests(theirs: Path, ours: Path) -> Any:
        log, pattern = str(theirs / "logs" / "app-0.log"), str(theirs / "logs" / "*.log")
        places = request_log.Places(log=log, patterns=[pattern], user=USER)
        return request_log.count(places, begun=0.0, over=1e12, deadline=time.monotonic() + 5.0)

    return [
        Case("impact_info, requests", _lay_logs, requests),
        Case("disk_reclaim", _lay_logs, reclaim),
        Case("environment file", _lay_logs, environment),
        Case("log file", _lay_logs, log, errors=(OSError,)),
    ]


def _lay_application(folder: Path, *, mark: bytes = b"") -> None:
    """Create an application that was killed and that has a damaged database."""
    _lay_modules(folder, mark=mark)
    _lay_database(folder, mark=mark, damaged=True)
    (folder / "backend" / "migrations").mkdir()
    (folder / "backend" / "migrations" / "1_first.js").write_text(f"// {mark.decode()}\n")
    (folder / "backend" / "server.js").write_text(f"// {mark.decode()}\n")
    (folder / "logs").mkdir()
    (folder / "logs" / "app.log").write_text(f"2026-03-02T01:02:03.456Z ERROR started {mark.decode()}\n")
    (folder / ".env").write_text(f"NODE_ENV=production\nNOTE={mark.decode()}\n")
    (folder / "server.crt").write_text(f"{mark.decode()}\n")
    (folder / "server.key").write_text(f"{mark.decode()}\n")


def _lay_deployed(folder: Path, *, mark: bytes = b"") -> None:
    """Create an application as it is deployed, with its own settings, logs and backups."""
    _lay_application(folder, mark=mark)
    (folder / "package.json").write_text(json.dumps({"name": f"itsm{mark.decode()}", "version": "1.0.0"}))
    (folder / "knexfile.js").write_text("module.exports = {development: {connection: {filename: 'backend/itsm.db'}}};")
    (folder / "config" / "env").mkdir(parents=True)
    (folder / "config" / "env" / ".env.production").write_text(f"PORT=8080\nLOG_DIR={folder}/logs{mark.decode()}\n")
    (folder / "backups").mkdir()
    shutil.copyfile(folder / "backend" / "itsm.db.backup_1", folder / "backups" / f"itsm_1{mark.decode()}.db")


def _triage_cases() -> List[Case]:
    def service(theirs: Path, ours: Path) -> triage_context.Service:
        return triage_context.Service(
            app_dir=str(theirs),
            command=[_program(theirs, "node", _NODE), "backend/server.js"],
            manager="process",
            unit="",
            user=USER,
            db_path="backend/itsm.db",
            db_path_variable="DATABASE_PATH",
            log_file=str(theirs / "logs" / "app.log"),
            environment_file=str(theirs / ".env"),
            pid_file=str(theirs / "app.pid"),
            tls_cert_path=str(theirs / "server.crt"),
            tls_key_path=str(theirs / "server.key"),
            https_port=64430,
            http_port=64431,
            required_environment=[],
            state_dir=str(ours),
        )

    def triage(theirs: Path, ours: Path, *, respond: Optional[triage_run.Respond] = None) -> Any:
        found = triage_run.triage(
            service=service(theirs, ours),
            run=commands.run,
            deadline=10.0,
            part_timeout=4.0,
            window=600.0,
            log_lines=20,
            database_timeout=5.0,
            incident="INC-1",
            respond=respond,
        )
        path = found["facts"]["database"]["path"]
        with contextlib.suppress(sqlite_files.SqliteError):
            sqlite_backup.backup(path=path, user=USER, evidence=True, dest_dir=f"{ours}/evidence/INC-1")
        return found

    def response(theirs: Path, ours: Path) -> Any:
        """Save the evidence twice, as the first response does, but do not start the service."""

        def save(_result: Any, evidence: Callable[[], None]) -> Any:
            evidence()
            return {"started": False}, {}

        return triage(theirs, ours, respond=save)

    def probe(theirs: Path, ours: Path) -> Any:
        described = service(theirs, ours)
        names = ("app_dir", "user", "manager", "unit", "command", "pid_file", "environment_file", "db_path", "log_file")
        config = preflight_findings.Config(
            **{name: getattr(described, name) for name in names},
            **{name: getattr(described, name) for name in ("https_port", "http_port", "db_path_variable", "state_dir")},
        )
        seen = service_preflight.examine(config)
        database = str(seen["resolved"]["database_path"] or "")
        return [seen, start_safety.doubt(database), start_safety.quick_doubt(database, user=USER)]

    def no_systemd(*_argv: Any, **_how: Any) -> commands.Completed:
        raise commands.CommandError("this host has no systemd")

    def discover(theirs: Path, ours: Path) -> Any:
        return service_discovery.discover(app_dir=str(theirs), run=no_systemd)

    return [
        Case("service_discovery_info", _lay_deployed, discover),
        Case("triage_info", _lay_application, triage, errors=(*ERRORS, triage_run.TriageError)),
        Case("first_response", _lay_application, response, errors=(*ERRORS, triage_run.TriageError)),
        Case("health_probe, preflight and doubt", _lay_application, probe, errors=(*ERRORS, OSError)),
    ]


CASES = [*_sqlite_cases(), *_npm_cases(), *_release_cases(), *_file_cases(), *_triage_cases()]
