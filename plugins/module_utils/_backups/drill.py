# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore the newest backup to a scratch folder, start the service with it, and measure how long this takes.

The drill does not change the running service or its database (see sandbox.py). The result is kept in
restore_drill.json in the state folder.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import tempfile
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import (
    choice,
    listing,
    litestream,
    messages,
    sandbox,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    redact,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    MessageError,
    labelled,
    message,
    of,
    plain,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates, row_counts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable

RESULT = "restore_drill.json"
_UNIT_PROPERTIES = (
    *("LoadState", "User", "Group", "SupplementaryGroups", "WorkingDirectory", "ExecStart"),
    *("Environment", "EnvironmentFiles"),
)
_LIVE_PROPERTIES = ("ActiveState", "MainPID", "NRestarts", "ExecMainStartTimestampMonotonic")
_COMMAND = re.compile(r"path=(.*?) ; argv\[\]=(.*?) ; ignore_errors=")
_POLL = 0.1
_PROBE = 5.0  # time limit of one request, in seconds
# Maximum time in seconds from the first healthy response until the service opens the restored database.
_OPENED_WITHIN = 3.0
_MARGIN = 64 << 20
_LAST_LINE = 300
_FREE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


class Order(NamedTuple):
    """A drill to run.

    unit: the service's unit. user: the service's user. app_dir: the application's folder. database: the live database.
    variable: the environment variable with the path of the database. backup: the backup to restore, or "" for the
    newest one that can be restored. dirs, patterns: where to look for backups. writable: folders to which the service
    writes, besides its database. folder: the parent of the scratch folder. memory: memory limit, in bytes. timeout:
    time limit for the start, in seconds. time_budget: time limit for one check of a database, in seconds.
    litestream_config: Litestream's configuration file, or "" to ignore replicas. run: the ID of the run to which the
    drill belongs.
    """

    unit: str
    user: str
    app_dir: str
    database: str
    variable: str
    targets: Sequence[probe_plan.Target]
    state_dir: str
    folder: str
    ok_statuses: Sequence[str] = ("ok",)
    login: Optional[probe_plan.Login] = None
    backup: str = ""
    dirs: Sequence[str] = ()
    patterns: Sequence[str] = ()
    writable: Sequence[str] = ()
    memory: int = 1 << 30
    timeout: float = 120.0
    time_budget: float = 300.0
    litestream_config: str = ""
    litestream_program: str = "litestream"
    run: str = ""


class _Live(NamedTuple):
    """The service's process and its database file, which a drill must not change."""

    process: Mapping[str, str]
    database: Optional[Tuple[int, int]]


class _Scratch(NamedTuple):
    """A drill's folders. data: owned by the service's user, for the restored database."""

    folder: str
    data: str
    output: str
    empty: str


class _Done:
    """A drill's result so far."""

    def __init__(self) -> None:
        self.problems: List[Message] = []
        self.chosen: Optional[choice.Chosen] = None
        self.rpo: Optional[float] = None
        self.rto: Optional[float] = None
        self.rows: Dict[str, int] = {}
        self.rows_after: Dict[str, int] = {}
        self.login: Optional[bool] = None
        self.unchanged: Optional[bool] = None
        # True if the drill was completed: the service was healthy, and everything was checked.
        self.complete = False
        # True if the backup was restored. A later failure is the result of the drill, and no other backup is tried.
        self.restored = False

    def choose(self, chosen: choice.Chosen, *, asked: float) -> None:
        """Set the backup to restore. asked: when the drill began, in seconds since the epoch."""
        self.chosen = chosen
        self.rpo = None if chosen.written is None else round(max(asked - chosen.written, 0.0), 3)
        self.rows = dict(chosen.rows)


def drill(order: Order, *, check_mode: bool = False, run: commands.Runner = commands.run) -> Dict[str, Any]:
    """Run a drill and return the result of the restore_drill module.

    A failed drill is a result, not an error. Raises BackupError or SqliteError if a parameter is invalid or the drill
    cannot be run on this host.
    """
    _check(order)
    began, at = time.monotonic(), timestamps.now()
    done = _Done()
    if check_mode:
        listing.refuse_other_run(order.state_dir, run=order.run)
    with listing.locked(order.state_dir, run=order.run) if not check_mode else contextlib.nullcontext():
        search = choice.Search(
            place=order.database,
            named=order.backup,
            dirs=order.dirs,
            patterns=order.patterns,
            user=order.user,
            known=_known(order),
            recorded=listing.recorded(order.state_dir),
            time_budget=order.time_budget,
        )
        asked = time.time()
        chosen = _candidates(order, search, done, deadline=began + order.time_budget, run=run)
        before = _live(order, run=run) if chosen and not check_mode else None
        for number, each in enumerate(chosen):
            done.choose(each, asked=asked)
            if check_mode:
                break
            try:
                _restore_and_start(order, done, search, run=run)
            except (MessageError, OSError) as error:
                done.problems.append(error.told if isinstance(error, MessageError) else quoted(error))
                # If a replica cannot be restored, use the newest backup. If the drill fails after a backup has been
                # restored, this failure is the drill's result. No other backup is tried.
                if done.restored or number + 1 == len(chosen):
                    break
            else:
                break
        if before is not None:
            changes = _changes(before, _live(order, run=run))
            done.problems += changes
            done.unchanged = not changes
        if check_mode:
            done.complete = done.chosen is not None
        result = _result(done, at=at, began=began)
        if not check_mode:
            _keep(order.state_dir, result)
    return result


def _check(order: Order) -> None:
    for name, value in (("path", order.database), ("scratch_dir", order.folder), ("app_dir", order.app_dir)):
        if not os.path.isabs(value) or "\0" in value:
            raise BackupError(f"{name} must be an absolute path, not {printable(value)!r}")
    for name, seconds in (("timeout", order.timeout), ("time_budget", order.time_budget)):
        if not 0 < seconds <= 86400:
            raise BackupError(f"{name} must be above 0 and at most 86400 seconds, not {seconds:g}")
    if not env_file.NAME.match(order.variable):
        raise BackupError(f"variable must be the name of an environment variable, not {order.variable!r}")
    if order.memory < 64 << 20:
        raise BackupError(f"memory must be at least {64 << 20} bytes, not {order.memory}")
    probe_plan.check(order.targets, probe_plan.Plan(mode="await", ok_statuses=order.ok_statuses), login=order.login)


def _known(order: Order) -> candidates.Known:
    """Return the data that identifies the service's database, from the last good check or from its current state.

    If neither state is known, use the tables of the newest sound backup in the list.
    """
    counted = last_good.last_good_rows(order.state_dir, path=order.database)
    if not counted.created_at:
        # A drill does not need the live database.
        with contextlib.suppress(SqliteError):
            look = sqlite_check.check(path=order.database, checks=[], user=order.user, time_budget=order.time_budget)
            now = last_good.Counted.of(look)
            counted = now._replace(rows=counted.rows or now.rows)
    listed = [] if counted.rows else listing.read(order.state_dir)
    tables = counted.rows or next((entry.rows for entry in listed if entry.sound), {})
    return candidates.Known(set(tables), counted.created_at)


def _candidates(
    order: Order, search: choice.Search, done: _Done, *, deadline: float, run: commands.Runner
) -> List[choice.Chosen]:
    """Return the backups to try: the replica (it is newer than any backup) and the newest backup."""
    found: List[choice.Chosen] = []
    if order.litestream_config and not order.backup:
        try:
            where = {"config": order.litestream_config, "program": order.litestream_program}
            replica = litestream.find(order.database, **where)
        except BackupError as error:
            replica = None
            done.problems.append(error.told)
        if replica is not None:
            written = litestream.newest_change(replica, run=run)
            found.append(choice.Chosen(replica.name, written, {}, replica))
    newest, problems = choice.newest(search, deadline=deadline)
    # If there is no backup, the replica is enough.
    done.problems += [each for each in problems if not found or each.id != "reason.restore.no_backup_in"]
    return [*found, newest] if newest is not None else found


def _live(order: Order, *, run: commands.Runner) -> _Live:
    """Return the state of the running service. Raises BackupError, SqliteError."""
    try:
        process = systemd.unit_properties(order.unit, _LIVE_PROPERTIES, run=run)
    except procfs.HostError as error:
        raise BackupError(error) from error
    facts = sqlite_files.facts_of(order.database, rights=sqlite_files.rights_on(order.database, order.user))
    return _Live(process, None if facts is None else (facts.device, facts.inode))


def _changes(before: _Live, after: _Live) -> List[Message]:
    what = []
    if before.process != after.process:
        pids = {"before": before.process.get("MainPID", "0"), "now": after.process.get("MainPID", "0")}
        what.append(message("reason.drill.pid", **pids))
    if before.database != after.database:
        what.append(message("reason.drill.replaced"))
    return [message("reason.drill.live_changed", what=what)] if what else []


def _restore_and_start(order: Order, done: _Done, search: choice.Search, *, run: commands.Runner) -> None:
    """Restore the chosen backup and start the service with it. Complete `done`. Raises MessageError, OSError."""
    unit = drill_unit(order.unit)
    properties = _unit(order, run=run)
    sandbox.stop(unit, run=run)  # if a killed drill has left it behind
    account = pwd.getpwnam(order.user)
    with _scratch(order, account, done) as scratch:
        _require_room(order, done, scratch)
        began = time.monotonic()
        source = _source(order, done, search, scratch, run=run)
        restored = f"{scratch.data}/{os.path.basename(order.database)}"
        copy = sqlite_backup.backup(path=source, dest=restored, user=order.user, timeout=order.time_budget)
        done.rows, done.restored = dict(copy["row_counts"]), True
        limits = sandbox.Limits(memory=order.memory, seconds=2 * order.timeout + 60, largest=2 * copy["size"] + _MARGIN)
        plan = _plan(order, properties, account, scratch, restored=restored)._replace(most=2 * limits.largest)
        lock = listing.lock_of(order.state_dir)
        wanted = sandbox.properties(limits, output=scratch.output, data=scratch.data, folder=scratch.folder, lock=lock)
        try:
            with sandbox.in_memory(plan) as path:
                sandbox.start(unit, path, wanted, run=run)
                pid = _await_health(order, unit, scratch, secrets=plan.environment, run=run)
            done.rto = round(time.monotonic() - began, 3)
            _check_open(order, restored)
            _log_in(order, done, pid)
        finally:
            sandbox.stop(unit, run=run)
        _compare(order, done, restored)
    done.complete = True


def drill_unit(unit: str) -> str:
    """Return the name of the transient unit for a service's unit."""
    return f"itsm-runbook-drill-{re.sub(r'[^A-Za-z0-9_.-]', '_', re.sub(r'[.]service$', '', unit))}.service"


def _unit(order: Order, *, run: commands.Runner) -> Dict[str, str]:
    """Return the properties of the service's unit. Raises BackupError."""
    try:
        properties = systemd.unit_properties(order.unit, _UNIT_PROPERTIES, run=run)
    except procfs.HostError as error:
        raise BackupError(error) from error
    if properties.get("LoadState") != "loaded":
        raise BackupError(message("reason.process.no_unit", unit=order.unit))
    if not _COMMAND.search(properties.get("ExecStart", "")):
        raise BackupError(message("reason.drill.no_command", unit=order.unit))
    return properties


def _plan(
    order: Order,
    properties: Mapping[str, str],
    account: pwd.struct_passwd,
    scratch: _Scratch,
    *,
    restored: str,
) -> sandbox.Plan:
    """Return the plan for the drill's unit: the command, user, folder and environment of the service's own unit.

    Only the database path differs from that of the service.
    """
    found = _COMMAND.search(properties["ExecStart"])
    program, argv = (found.group(1), found.group(2).split(" ")) if found else ("", [])
    gid = account.pw_gid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(properties["Group"]).gr_gid if properties.get("Group") else gid
    groups = set(os.getgrouplist(account.pw_name, gid))
    for name in properties.get("SupplementaryGroups", "").split():
        with contextlib.suppress(KeyError):
            groups.add(grp.getgrnam(name).gr_gid)
    environment = {
        "PATH": procfs.STANDARD_PATH,
        "LANG": "C.UTF-8",
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
        **env_file.unit_environment(properties),
        order.variable: restored,
    }
    # If the path is a link, SQLite puts the WAL next to the link's target.
    with safe_open.acting((account.pw_uid, account.pw_gid)):
        live = list(dict.fromkeys((order.database, os.path.realpath(order.database))))
    return sandbox.Plan(
        program=program,
        argv=argv,
        environment=environment,
        folder=properties.get("WorkingDirectory", "").lstrip("!-") or order.app_dir,
        uid=account.pw_uid,
        gid=gid,
        groups=sorted(groups),
        hidden=[path + suffix for path in live for suffix in sqlite_files.SUFFIXES.values()],
        writable=list(dict.fromkeys(order.writable)),
        empty=scratch.empty,
        read_only=[order.app_dir, os.path.dirname(order.database)],
        network=os.stat("/proc/self/ns/net").st_ino,
        data=scratch.data,
        most=0,
    )


@contextlib.contextmanager
def _scratch(order: Order, account: pwd.struct_passwd, done: _Done) -> Iterator[_Scratch]:
    """Make a drill's folders, and remove them afterwards. Raises BackupError, OSError.

    Only the folder `data` belongs to the service's user. No links are followed when this folder is removed.
    """
    if account.pw_uid == 0:
        raise BackupError(message("reason.drill.as_root", unit=order.unit))
    prefix = f".{os.path.basename(order.state_dir.rstrip('/'))}-drill-"
    try:
        if safe_open.rights_on(order.folder) is not None:
            raise PermissionError(0, "other accounts than root can change it")
        _clear(order.folder, prefix)
        folder = tempfile.mkdtemp(prefix=prefix, dir=order.folder)
    except OSError as error:
        why = str(error.strerror)
        raise BackupError(message("reason.drill.not_prepared", folder=printable(order.folder), why=why)) from error
    try:
        made = _Scratch(folder, f"{folder}/data", f"{folder}/output", f"{folder}/empty")
        os.chmod(folder, 0o711)  # noqa: S103 - the user must be able to enter it, but not to list it
        for path, mode in ((made.output, 0o600), (made.empty, 0)):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode))
        os.mkdir(made.data, 0o700)
        os.chown(made.data, account.pw_uid, account.pw_gid)
        with safe_open.acting((account.pw_uid, account.pw_gid)):
            reachable = os.access(made.data, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)
        if not reachable:
            names = {"user": account.pw_name, "folder": printable(order.folder)}
            raise BackupError(message("reason.drill.folder_closed", **names))
        yield made
    finally:
        atomic_files.discard_tree(folder)
        if os.path.lexists(folder):
            done.problems.append(message("reason.drill.left", folder=printable(folder)))


def _clear(parent: str, prefix: str) -> None:
    """Remove folders that killed drills left behind.

    The lock in listing.locked ensures that no other drill of this service is running.
    """
    for name in os.listdir(parent):
        if name.startswith(prefix):
            atomic_files.discard_tree(f"{parent}/{name}")


def _source(order: Order, done: _Done, search: choice.Search, scratch: _Scratch, *, run: commands.Runner) -> str:
    """Return the path of the backup. A replica is first restored to a file in a root-owned folder, and checked.

    Raises BackupError.
    """
    chosen = done.chosen
    if chosen is None or chosen.replica is None:
        return chosen.path if chosen is not None else ""
    target = f"{scratch.folder}/replica.db"
    litestream.restore(chosen.replica, target, timeout=order.time_budget, run=run)
    restored = candidates.Candidate(time.time(), target)
    why = choice.examine(restored, search, time_budget=order.time_budget).why
    if why is not None:
        raise BackupError(candidates.refusal(restored._replace(path=chosen.path), why))
    return target


def _require_room(order: Order, done: _Done, scratch: _Scratch) -> None:
    """Raise BackupError if the host does not have enough space or memory for the drill. Raises OSError."""
    chosen = done.chosen
    # A replica is about as large as the live database, and it is restored before it is copied.
    path, times = (order.database, 3) if chosen is None or chosen.replica else (chosen.path, 2)
    rights = sqlite_files.rights_on(path, order.user)
    sizes = [sqlite_files.facts_of(path + suffix, rights=rights) for suffix in ("", "-wal")]
    needed = times * sum(facts.size for facts in sizes if facts is not None) + _MARGIN
    free = sqlite_files.free_bytes(scratch.folder)
    if free < needed:
        folder = printable(order.folder)
        raise BackupError(message("reason.drill.no_room", needed=needed, free=free, folder=folder))
    available = _FREE.search(procfs.read_text("/proc/meminfo"))
    memory = int(available.group(1)) << 10 if available else order.memory
    if memory < order.memory:
        raise BackupError(message("reason.drill.no_memory", needed=order.memory, free=memory))


def _await_health(
    order: Order, unit: str, scratch: _Scratch, *, secrets: Mapping[str, str], run: commands.Runner
) -> int:
    """Wait for the first healthy response, and return the service's process ID. Raises BackupError."""
    give_up = time.monotonic() + order.timeout
    why: Message = message("reason.probe.gone")

    def probe() -> Any:
        return http_probe.probe(order.targets, timeout=_PROBE, ok_statuses=order.ok_statuses)

    while time.monotonic() < give_up:
        try:
            pid = sandbox.main_pid(unit, run=run)
        except procfs.HostError as error:
            raise BackupError(error) from error
        if pid is None:
            raise _ended(scratch, secrets)
        answers = sandbox.in_network_of(pid, probe, timeout=_PROBE + 1) if pid else None
        if answers is not None:
            wrong = [answer for answer in answers if answer["required"] and not answer["ok"]]
            if not wrong:
                return pid
            why = labelled(wrong[0]["name"], of(wrong[0], "error"))
        time.sleep(_POLL)
    said = _said(scratch, secrets)
    raise BackupError(message("reason.drill.not_healthy", seconds=f"{order.timeout:g}", why=why, said=said))


def _ended(scratch: _Scratch, environment: Mapping[str, str]) -> BackupError:
    """Return the error for a service that ended before it was healthy."""
    said = _said(scratch, environment)
    text = str(said.values.get("text", ""))
    if text.startswith(sandbox.NOT_ISOLATED):
        return BackupError(message("reason.drill.not_isolated", why=text[len(sandbox.NOT_ISOLATED) :]))
    return BackupError(message("reason.drill.ended", said=said))


def _said(scratch: _Scratch, environment: Mapping[str, str]) -> Message:
    """Return the last line of the service's output, without secrets."""
    with open(scratch.output, "rb") as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - (1 << 16), 0))
        text = stream.read().decode("utf-8", "replace")
    lines = [
        line for line in redact.Redactor(redact.secret_values(environment)).text(text).splitlines() if line.strip()
    ]
    # Node prints the message of an exception above the stack trace.
    told = [line for line in lines if "Error" in line and not line.lstrip().startswith("at ")] or lines
    return quoted(told[-1][:_LAST_LINE]) if told else message("reason.drill.said_nothing")


def _check_open(order: Order, restored: str) -> None:
    """Raise BackupError if the service does not have the restored database open."""
    until = time.monotonic() + _OPENED_WITHIN
    while True:
        _found, holders = sqlite_holders.survey(restored, user=order.user, deadline=until)
        if holders.found:
            return
        if time.monotonic() > until:
            raise BackupError(message("reason.drill.other_database", variable=order.variable))
        time.sleep(_POLL)


def _log_in(order: Order, done: _Done, pid: int) -> None:
    """Log in with the restored database. Raises BackupError if the login fails."""
    login = order.login
    if login is None:
        return

    def log_in() -> Any:
        return http_probe.log_in(login, timeout=_PROBE)

    answer = sandbox.in_network_of(pid, log_in, timeout=_PROBE + 1)
    done.login = bool(answer and answer["ok"])
    if not done.login:
        why = of(answer, "error") if answer else message("reason.probe.gone")
        raise BackupError(message("reason.drill.login", why=why))


def _compare(order: Order, done: _Done, restored: str) -> None:
    """Check the restored database after the service has used it. Raises BackupError, SqliteError."""
    check = sqlite_check.check(path=restored, checks=["quick"], user=order.user, time_budget=order.time_budget)
    done.rows_after = dict(check["row_counts"])
    errors = [of(problem, "message") for problem in check["problems"] if problem["level"] == "error"]
    if errors or check["checks"].get("quick") != "ok":
        raise BackupError(message("reason.drill.not_sound", why=errors or [quoted(check["checks"].get("quick"))]))
    lost = row_counts.missing(done.rows, done.rows_after)
    if lost:
        tables = [message("reason.backup.table", table=name, rows=n[0], now=n[1]) for name, n in lost.items()]
        raise BackupError(message("reason.drill.rows_lost", tables=tables))


def _result(done: _Done, *, at: str, began: float) -> Dict[str, Any]:
    chosen = done.chosen
    return {
        "changed": False,
        "at": at,
        "ok": done.complete and done.unchanged is not False,
        "backup": printable(chosen.path) if chosen is not None else None,
        "backup_at": chosen.at if chosen is not None else None,
        "rpo_seconds": done.rpo,
        "rto_seconds": done.rto,
        "rows": done.rows,
        "rows_after": done.rows_after,
        "login": done.login,
        "live_unchanged": done.unchanged,
        "problems": [messages.english(each) for each in done.problems],
        "messages": plain(problems=done.problems),
        "duration": round(time.monotonic() - began, 3),
    }


def _keep(state_dir: str, result: Mapping[str, Any]) -> None:
    """Write the result to the state folder, with its problems as messages. Raises BackupError."""
    kept = {name: value for name, value in result.items() if name not in ("changed", "messages")}
    kept["problems"] = result["messages"].get("problems", [])
    path = os.path.join(state_dir, RESULT)
    try:
        atomic_files.write_atomically(path, json.dumps(kept, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        why = str(error.strerror)
        raise BackupError(message("reason.drill.not_kept", path=printable(path), why=why)) from error
